// Predicts the time of a data-parallel step on many GPUs (docs/scaling.md).
//   scaling_simulation --model tinyllama|llama-7b|llama-13b [--followers N] [--sharding none|optimizer|parameters]
//                      [--global-batch ROWS] [--rows N] [--tokens N] [--rate FLOPS] [--link-* ...] [--json]
// With --layers FILE.json the times of each layer are read from a file that somebody has measured:
//   [{"forward": s, "backward": s, "teacher_forward": s, "parameters": n, "teacher_parameters": n}, ...]
// Prints a table: ranks, milliseconds of a step, tokens per second, the share of exchanges that is hidden, efficiency.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/program.h"
#include "benchmarks/scaling_shapes.h"

namespace {

using namespace echo;
using namespace echo::benchmarks;

struct Arguments {
  std::string model = "tinyllama", sharding = "optimizer", layers;
  int64_t followers = 0, global_batch = 1024;
  Workload work;
  std::string wire = "float32";
  double bucket_mib = 25;
  Cluster cluster;
  std::vector<int64_t> world = {1, 8, 16, 32, 64, 128, 256, 512};
  double update_bandwidth = 2.5e12;
  bool pretraining = false;
};

// The last `followers` layers but one follow the layer before them, which is where similar layers lie most often.
LeaderMap map_with(int64_t layers, int64_t followers) {
  std::vector<int64_t> leaders(static_cast<size_t>(layers));
  const int64_t leader = layers - 2 - followers;
  for (int64_t i = 0; i < layers; ++i) leaders[size_t(i)] = i > leader && i <= leader + followers ? leader : i;
  return LeaderMap(leaders);
}

std::vector<SimulatedLayer> measured_layers(const std::string& file) {
  std::vector<SimulatedLayer> layers;
  for (const nlohmann::json& entry : nlohmann::json::parse(read_file(file)))
    layers.push_back({.forward = entry.at("forward"),
                      .backward = entry.at("backward"),
                      .teacher_forward = entry.value("teacher_forward", 0.0),
                      .parameters = entry.at("parameters"),
                      .teacher_parameters = entry.value("teacher_parameters", int64_t(0))});
  return layers;
}

SimulatedStep step_of(const Arguments& arguments) {
  static const std::map<std::string, Sharding> kinds = {
      {"none", Sharding::none}, {"optimizer", Sharding::optimizer}, {"parameters", Sharding::parameters}};
  const LlamaConfig config = published_shape(arguments.model);
  SimulatedStep step;
  step.layers = arguments.layers.empty()
                    ? estimated_layers(config, map_with(config.num_hidden_layers, arguments.followers), arguments.work)
                    : measured_layers(arguments.layers);
  step.sharding = kinds.at(arguments.sharding);
  step.bucket_bytes = int64_t(arguments.bucket_mib * 1048576);
  step.gradient_bytes = arguments.wire == "bfloat16" ? 2 : 4;
  step.parameter_bytes = 2;  // products read bf16 copies
  double parameters = 0;
  for (const SimulatedLayer& layer : step.layers) parameters += double(layer.parameters);
  step.optimizer = parameters * 30 / arguments.update_bandwidth;  // reads 4 f32 numbers, writes 3 and a bf16 copy
  return step;
}

int run(Arguments arguments) {
  arguments.work.distillation = !arguments.pretraining;
  std::printf("%s, %lld followers, %s, rows of %lld tokens, %lld rows per micro-batch, %lld rows per step, sharding: %s\n",
              arguments.layers.empty() ? arguments.model.c_str() : arguments.layers.c_str(), (long long)arguments.followers,
              arguments.pretraining ? "pretraining" : "distillation", (long long)arguments.work.tokens_per_row,
              (long long)arguments.work.rows, (long long)arguments.global_batch, arguments.sharding.c_str());
  std::printf("%6s %12s %14s %9s %8s %11s\n", "ranks", "micro-batches", "step, ms", "tokens/s", "hidden", "efficiency");
  for (const int64_t world : arguments.world) {
    if (arguments.global_batch % (world * arguments.work.rows) != 0) {
      std::printf("%6lld   %lld rows per step do not divide into micro-batches of %lld rows\n", (long long)world,
                  (long long)arguments.global_batch, (long long)arguments.work.rows);
      continue;
    }
    SimulatedStep step = step_of(arguments);
    step.micro_batches = arguments.global_batch / (world * arguments.work.rows);
    arguments.cluster.world = world;
    const StepTime time = simulate(step, arguments.cluster);
    const double tokens = double(arguments.global_batch * arguments.work.tokens_per_row);
    std::printf("%6lld %12lld %14.1f %9.0f %8.3f %11.3f\n", (long long)world, (long long)step.micro_batches, 1e3 * time.total,
                tokens / time.total, time.hidden(), time.efficiency());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Predicts the time of a data-parallel step on many GPUs.");
  Arguments arguments;
  app.add_option("--model", arguments.model)
      ->check(CLI::IsMember({"tinyllama", "llama-7b", "llama-13b"}))
      ->capture_default_str();
  app.add_option("--layers", arguments.layers, "JSON file with measured times of each layer")->check(CLI::ExistingFile);
  app.add_option("--followers", arguments.followers)->check(CLI::Range(0, 30))->capture_default_str();
  app.add_option("--sharding", arguments.sharding)
      ->check(CLI::IsMember({"none", "optimizer", "parameters"}))
      ->capture_default_str();
  app.add_flag("--pretraining", arguments.pretraining, "without a teacher");
  app.add_flag("--recompute", arguments.work.recompute, "activations are computed again in the backward pass");
  app.add_option("--global-batch", arguments.global_batch, "rows of a step on all ranks")->capture_default_str();
  app.add_option("--rows", arguments.work.rows, "rows of a micro-batch on one rank")->capture_default_str();
  app.add_option("--tokens", arguments.work.tokens_per_row, "tokens of a row")->capture_default_str();
  app.add_option("--rate", arguments.work.rate, "operations per second that one rank reaches")->capture_default_str();
  app.add_option("--update-bandwidth", arguments.update_bandwidth, "bytes per second of the optimizer")->capture_default_str();
  app.add_option("--wire", arguments.wire, "dtype of gradients on the wire")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  app.add_option("--bucket-mib", arguments.bucket_mib)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--world", arguments.world, "numbers of ranks")->delimiter(',');
  app.add_option("--per-node", arguments.cluster.ranks_per_node, "ranks of one machine")->capture_default_str();
  app.add_option("--inside-bandwidth", arguments.cluster.inside.bandwidth, "bytes per second of a rank")->capture_default_str();
  app.add_option("--inside-latency", arguments.cluster.inside.latency, "seconds")->capture_default_str();
  app.add_option("--between-bandwidth", arguments.cluster.between.bandwidth, "bytes per second of a rank")
      ->capture_default_str();
  app.add_option("--between-latency", arguments.cluster.between.latency, "seconds")->capture_default_str();
  app.add_option("--interference", arguments.cluster.interference, "speed that exchanges cost, 0 to 1")->capture_default_str();
  return run_program(app, argc, argv, [&] { return run(arguments); });
}
