#include "tensor/cuda_graph.h"

#include "tensor/cuda_context.h"
#include "tensor/cuda_error.h"

namespace echo::cuda {

struct RecordedWork {
  cudaGraphExec_t executable;
};

RecordedWork* record_work(const std::function<void()>& work) {
  cudaGraph_t graph = nullptr;
  ECHO_CUDA(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
  begin_recording();
  try {
    work();
  } catch (...) {
    (void)cudaStreamEndCapture(stream(), &graph);
    end_recording();
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
    throw;
  }
  const cudaError_t end = cudaStreamEndCapture(stream(), &graph);
  const size_t outliving = end_recording();
  check(end, "cudaStreamEndCapture");
  if (outliving > 0) (void)cudaGraphDestroy(graph);
  ECHO_CHECK(outliving == 0, "recorded work has made ", outliving, " tensors that outlive it");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  (void)cudaGraphDestroy(graph);
  check(status, "cudaGraphInstantiate");
  return new RecordedWork{executable};
}

void run_recorded(RecordedWork* recorded) { ECHO_CUDA(cudaGraphLaunch(recorded->executable, stream())); }

void drop_recorded(RecordedWork* recorded) noexcept {
  if (recorded == nullptr) return;
  (void)cudaGraphExecDestroy(recorded->executable);
  delete recorded;
}

}  // namespace echo::cuda
