// Times kernels, steps and generation on a GPU (or the CPU), one request per line:
//   gpu_benchmark [--device auto|cpu|cuda|cuda:N] < requests
//   {"case": "attention_forward", "rows": 8, "tokens": 2048, "heads": 32, "kv_heads": 4, "head_dim": 64, "seconds": 0.1}
// A case is prepared and warmed up at its first request, and kept until {"case": "release"}. A request takes a sample of about
// `seconds`, and the answer is a line of JSON: seconds per iteration, seconds until the host had submitted the work, and the
// peak of memory. With "trim", cached memory is given back afterwards, for another process on the GPU. For a failure the answer
// has the reason. benchmarks/compare_gpu.py sends the requests. benchmarks/peer_torch_gpu.py answers the same requests.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <iostream>

#include "base/program.h"
#include "base/thread_waiting.h"
#include "benchmarks/attention_cases.h"
#include "benchmarks/elementwise_cases.h"
#include "benchmarks/kernel_cases.h"
#include "benchmarks/model_cases.h"
#include "tensor/allocator.h"
#include "tensor/cuda_device.h"
#include "tensor/device_choice.h"

namespace {

using namespace echo;
using namespace echo::benchmarks;

void wait_for(Device device) {
  if constexpr (kWithCuda) {
    if (!device.is_cpu()) cuda::synchronize();
  }
}

class Server {
 public:
  explicit Server(Device device) : device_(device) {}

  json answer(const json& request) {
    const std::string name = request.at("case");
    if (name == "release") {
      prepared_.clear();
      shelf_ = {};
      release_cached_memory(device_);
      return {{"case", name}, {"in_use_bytes", memory_statistics(device_).in_use}};
    }
    json key = request;
    key.erase("seconds");
    key.erase("trim");
    const bool trim = request.value("trim", false);
    auto found = prepared_.find(key.dump());
    const bool is_new = found == prepared_.end();
    if (is_new) found = prepared_.emplace(key.dump(), prepare(name, request)).first;
    // Memory that the last sample gave back is allocated again before the clock starts.
    if (trim && !is_new) time_of(found->second.benchmark, 1);
    const json answer = sample(name, found->second);
    if (trim) release_cached_memory(device_);
    return answer;
  }

 private:
  using Clock = std::chrono::steady_clock;

  struct Prepared {
    BenchmarkCase benchmark;
    int64_t iterations;
    double setup_seconds;
  };

  static double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

  BenchmarkCase make(const std::string& name, const json& request) {
    if (name == "copy") return copy_case(request, device_);
    if (name == "matmul") return matmul_case(request, device_);
    if (name == "attention_forward") return attention_forward_case(request, device_);
    if (name == "attention_backward") return attention_backward_case(request, device_);
    if (name == "follower_forward") return follower_forward_case(request, device_);
    if (name == "head") return head_case(request, device_);
    if (name == "elementwise")
      return request.at("kernel") == "loss_rows" ? loss_rows_case(request, device_) : elementwise_case(request, device_);
    if (name == "adamw") return adamw_case(request, device_);
    if (name == "gradient_norm") return gradient_norm_case(request, device_);
    if (name == "step") return step_case(request, device_, shelf_);
    if (name == "decode") return decode_case(request, device_, shelf_);
    fail(ExitCode::usage, "case ", name, " is not known");
  }

  double time_of(const BenchmarkCase& benchmark, int64_t iterations) {
    benchmark.before();
    const auto begin = Clock::now();
    for (int64_t i = 0; i < iterations; ++i) benchmark.work();
    wait_for(device_);
    return seconds_since(begin) / double(iterations);
  }

  // Warms up, and determines how many iterations fill a sample.
  Prepared prepare(const std::string& name, const json& request) {
    const auto start = Clock::now();
    Prepared result{make(name, request), 1, 0};
    const BenchmarkCase& benchmark = result.benchmark;
    time_of(benchmark, std::min<int64_t>(3, std::max<int64_t>(1, benchmark.iterations)));
    result.iterations = benchmark.iterations;
    if (result.iterations == 0) {
      const double once = time_of(benchmark, 1);
      result.iterations = std::clamp(int64_t(request.value("seconds", 0.1) / once), int64_t{1}, int64_t{2000});
    }
    result.setup_seconds = seconds_since(start);
    return result;
  }

  json sample(const std::string& name, const Prepared& prepared) {
    prepared.benchmark.before();
    wait_for(device_);
    reset_memory_peak(device_);
    const auto start = Clock::now();
    for (int64_t i = 0; i < prepared.iterations; ++i) prepared.benchmark.work();
    const double launched = seconds_since(start);
    wait_for(device_);
    const double seconds = seconds_since(start), count = double(prepared.iterations);
    json answer = {{"case", name},
                   {"seconds", seconds / count},
                   {"launch_seconds", launched / count},
                   {"iterations", prepared.iterations},
                   {"setup_seconds", prepared.setup_seconds},
                   {"peak_bytes", memory_statistics(device_).peak}};
    prepared.benchmark.report(answer);
    if (answer.contains("loss") && !std::isfinite(answer["loss"].get<double>()))
      fail(ExitCode::numerical, name, ": the loss is not finite");
    return answer;
  }

  Device device_;
  ModelShelf shelf_;
  std::map<std::string, Prepared> prepared_;
};

json greeting(Device device) {
  json result = {{"ready", true}, {"engine", "echo"}, {"device", "cpu"}};
  if constexpr (kWithCuda) {
    if (!device.is_cpu()) {
      const cuda::DeviceProperties& gpu = cuda::properties();
      result["device"] = gpu.name;
      result["capability"] = concat(gpu.major, ".", gpu.minor);
      result["memory_bytes"] = gpu.memory_bytes;
    }
  }
  return result;
}

int run(const std::string& setting) {
  const Device device = choose_device(setting).device;
  Server server(device);
  std::cout << greeting(device).dump() << std::endl;
  std::string line;
  while (std::getline(std::cin, line)) {
    json answer;
    try {
      answer = server.answer(json::parse(line));
    } catch (const std::exception& error) {
      answer = {{"error", error.what()}};
    }
    std::cout << answer.dump() << std::endl;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  shorten_thread_waiting(argv);
  CLI::App app("Times kernels, training steps and generation as requests ask for them, one line of JSON each.");
  std::string device = "auto";
  app.add_option("--device", device, "auto, cpu, cuda or cuda:N");
  return run_program(app, argc, argv, [&] { return run(device); });
}
