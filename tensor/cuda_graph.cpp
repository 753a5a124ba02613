#include "tensor/cuda_graph.h"

#include "tensor/cuda_context.h"
#include "tensor/cuda_error.h"

namespace echo::cuda {

RecordedWork::RecordedWork(const std::function<void()>& work) {
  cudaGraph_t graph = nullptr;
  ECHO_CUDA(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
  try {
    work();
  } catch (...) {
    (void)cudaStreamEndCapture(stream(), &graph);
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
    throw;
  }
  ECHO_CUDA(cudaStreamEndCapture(stream(), &graph));
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  (void)cudaGraphDestroy(graph);
  check(status, "cudaGraphInstantiate");
  executable_ = executable;
}

RecordedWork::~RecordedWork() {
  if (executable_ != nullptr) (void)cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_));
}

void RecordedWork::run() { ECHO_CUDA(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_), stream())); }

}  // namespace echo::cuda
