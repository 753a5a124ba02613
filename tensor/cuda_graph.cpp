#include "tensor/cuda_graph.h"

#include <memory>
#include <utility>

#include "tensor/cuda_context.h"
#include "tensor/cuda_error.h"
#include "tensor/cuda_recorded_memory.h"

namespace echo::cuda {

struct RecordedWork {
  cudaGraphExec_t executable;
  std::unique_ptr<RecordedMemory> memory;
};

RecordedWorkPointer record_work(const std::function<void()>& work) {
  cudaGraph_t graph = nullptr;
  synchronize();  // so that memory freed earlier is available to the recorded work
  ECHO_CUDA(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
  begin_recording();
  try {
    work();
  } catch (...) {
    (void)cudaStreamEndCapture(stream(), &graph);
    if (auto memory = end_recording(); memory->taken() > 0) abandon(std::move(memory));
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
    throw;
  }
  const cudaError_t end = cudaStreamEndCapture(stream(), &graph);
  std::unique_ptr<RecordedMemory> memory = end_recording();
  const size_t outliving = memory->taken();
  if (outliving > 0) {
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
    abandon(std::move(memory));
  }
  check(end, "cudaStreamEndCapture");
  ECHO_CHECK(outliving == 0, "recorded work has made ", outliving, " tensors that outlive it");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = with_memory_released([&] { return cudaGraphInstantiate(&executable, graph, 0); });
  (void)cudaGraphDestroy(graph);
  check(status, "cudaGraphInstantiate");
  return RecordedWorkPointer(new RecordedWork{executable, std::move(memory)}, DropRecordedWork{drop_recorded});
}

void run_recorded(RecordedWork& recorded) { ECHO_CUDA(cudaGraphLaunch(recorded.executable, stream())); }

void drop_recorded(RecordedWork* recorded) noexcept {
  (void)cudaStreamSynchronize(stream());  // it may still run, and its memory is freed next
  (void)cudaGraphExecDestroy(recorded->executable);
  delete recorded;
}

}  // namespace echo::cuda
