// Compares measured training steps of several ranks on this machine with the prediction of training/step_simulation.h.
//   mpirun -n N --bind-to none rank_scaling [--layers L] [--hidden D] [--vocab V] [--rows N] [--tokens N] [--seconds S]
// Measures, in this order: the time of each parameter's backward pass without exchanges, the links between the ranks, what an
// exchange costs the computation beside it, and whole steps. Predicts the steps from the first three. The first rank prints one
// line of JSON.
#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/program.h"
#include "base/random.h"
#include "base/thread_waiting.h"
#include "communication/launch.h"
#include "nn/model_io.h"
#include "training/distillation.h"
#include "training/gradient_buckets.h"
#include "training/optimizer.h"
#include "training/rank_reduction.h"
#include "training/step_simulation.h"

namespace {

using namespace echo;
using Clock = std::chrono::steady_clock;

struct Arguments {
  int64_t layers = 6, hidden = 512, vocab = 4096, rows = 1, tokens = 256;
  double seconds = 4, bucket_mib = 4;
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + long(values.size()) / 2, values.end());
  return values[values.size() / 2];
}

// One rank with its model and its batch.
class Bench {
 public:
  Bench(const Arguments& arguments, Communicator& communicator) : arguments_(arguments), communicator_(communicator) {
    LlamaConfig config;
    config.num_hidden_layers = arguments.layers, config.hidden_size = arguments.hidden, config.vocab_size = arguments.vocab;
    config.num_attention_heads = config.num_key_value_heads = arguments.hidden / 64, config.head_dim = 64;
    config.intermediate_size = 3 * arguments.hidden;
    model_ = make_model(config, LeaderMap::own(arguments.layers), {});
    initialize(*model_, 0.02, 1);
    optimizer_ = std::make_unique<AdamW>(*model_, OptimizerSettings());
    order_ = backward_order(*model_);
    batch_.rows = arguments.rows, batch_.sequence_length = arguments.tokens;
    batch_.valid_tokens = arguments.rows * arguments.tokens;
    RandomSequence random(uint64_t(communicator.rank()) + 3);
    for (int64_t i = 0; i < batch_.valid_tokens; ++i) {
      batch_.inputs.push_back(int32_t(random.below(uint64_t(arguments.vocab))));
      batch_.labels.push_back(int32_t(random.below(uint64_t(arguments.vocab))));
    }
  }

  // The median times of `layers` (one per parameter, in the order of the forward pass) and of the optimizer, without exchanges.
  // Those of this rank, multiplied so that their sum is the slowest rank's.
  SimulatedStep profile() {
    GradientBuckets buckets(communicator_, order_, bucket_settings());  // only for its memory: it starts no exchange
    std::vector<double> ready(order_.size()), steps;
    Clock::time_point start;
    for (size_t i = 0; i < order_.size(); ++i)
      order_[i]->variable.set_gradient_ready_hook([&ready, &start, i] { ready[i] = seconds_since(start); });
    std::vector<std::vector<double>> times(order_.size() + 1);  // until the first hook, between hooks, the optimizer
    repeat([&] {
      start = Clock::now();
      pass();
      const double end = seconds_since(start);
      optimizer_->step(1e-4, optimizer_->gradient_norm());
      buckets.clear();
      steps.push_back(seconds_since(start));
      double before = 0;  // hooks of one layer may come in another order
      for (size_t i = 0; i < order_.size(); ++i) {
        times[i].push_back(std::max(0.0, ready[i] - before));
        before = std::max(before, ready[i]);
      }
      times.back().push_back(steps.back() - end);
    });
    const double factor = slowest(median(steps)) / median(steps);
    SimulatedStep step;
    step.optimizer = factor * median(times.back());
    step.bucket_bytes = bucket_settings().bytes;
    for (size_t i = order_.size(); i-- > 0;) {
      SimulatedLayer layer;
      layer.parameters = order_[i]->variable.data().elements();
      (i == 0 ? layer.forward : layer.backward) = factor * median(times[i]);
      step.layers.push_back(layer);
    }
    return step;
  }

  Cluster measure_links() {
    const int64_t small = 1 << 16, large = 1 << 22;  // elements
    const double seconds_small = all_reduce_seconds(small), seconds_large = all_reduce_seconds(large);
    const double world = double(communicator_.world());
    Cluster cluster;
    cluster.world = cluster.ranks_per_node = communicator_.world();
    const double per_byte = (seconds_large - seconds_small) / double(4 * (large - small));
    cluster.inside.bandwidth = 2 * (world - 1) / world / per_byte;
    cluster.inside.latency = std::max(0.0, seconds_small - per_byte * double(4 * small)) / (2 * (world - 1));
    return cluster;
  }

  // The share of its speed that a pass loses while an exchange of half its length runs.
  double measure_interference(const Cluster& cluster) {
    std::vector<double> alone, beside;
    repeat([&] { alone.push_back(timed([&] { pass(); })), optimizer_->clear_gradients(); });
    const double pass_seconds = slowest(median(alone));
    const int64_t elements = std::max<int64_t>(1024, int64_t(pass_seconds / 2 * cluster.inside.bandwidth / 8));
    const Tensor values = Tensor::zeros({elements}, DType::f32);
    const double exchange = all_reduce_seconds(elements);
    repeat([&] {
      const std::unique_ptr<Exchange> running = communicator_.start_all_reduce_sum(values);
      beside.push_back(timed([&] { pass(); })), optimizer_->clear_gradients();
      running->wait();
    });
    return std::clamp((slowest(median(beside)) - pass_seconds) / exchange, 0.0, 0.95);
  }

  double measure_step() {
    GradientBuckets buckets(communicator_, order_, bucket_settings());
    std::vector<double> steps;
    repeat([&] {
      steps.push_back(timed([&] {
        buckets.start_in_next_pass();
        pass();
        buckets.finish();
        optimizer_->step(1e-4, buckets.norm());
        buckets.clear();
      }));
    });
    return slowest(median(steps));
  }

 private:
  // The ranks agree when to end, and begin each repetition together.
  void repeat(const std::function<void()>& body) {
    body();
    const auto start = Clock::now();
    for (int64_t i = 0;; ++i) {
      const bool enough = i >= 5 && seconds_since(start) >= arguments_.seconds;
      if (sum_over_ranks(communicator_, int64_t(enough)) > 0) return;
      body();
    }
  }
  double timed(const std::function<void()>& body) {
    const auto start = Clock::now();
    body();
    return seconds_since(start);
  }
  double all_reduce_seconds(int64_t elements) {
    const Tensor values = Tensor::zeros({elements}, DType::f32);
    std::vector<double> times;
    repeat([&] { times.push_back(timed([&] { communicator_.start_all_reduce_sum(values)->wait(); })); });
    return slowest(median(times));
  }
  double slowest(double seconds) {
    for (const std::string& other : communicator_.all_gather(nlohmann::json(seconds).dump()))
      seconds = std::max(seconds, nlohmann::json::parse(other).get<double>());
    return seconds;
  }
  void pass() {
    accumulate_gradients(*model_, nullptr, batch_, true_label_loss(), {}, batch_.valid_tokens * communicator_.world());
  }
  BucketSettings bucket_settings() const { return {.bytes = int64_t(arguments_.bucket_mib * 1048576)}; }

  const Arguments& arguments_;
  Communicator& communicator_;
  std::unique_ptr<LanguageModel> model_;
  std::unique_ptr<AdamW> optimizer_;
  std::vector<Parameter*> order_;
  Batch batch_;
};

int run(const Arguments& arguments, Communicator& communicator) {
  omp_set_num_threads(1);
  Bench bench(arguments, communicator);
  const SimulatedStep step = bench.profile();
  Cluster cluster = bench.measure_links();
  cluster.interference = bench.measure_interference(cluster);
  const double measured = bench.measure_step();
  const StepTime predicted = simulate(step, cluster);
  if (!communicator.is_first()) return 0;
  const nlohmann::json line = {{"ranks", communicator.world()},
                               {"bandwidth", cluster.inside.bandwidth},
                               {"latency", cluster.inside.latency},
                               {"interference", cluster.interference},
                               {"compute_seconds", predicted.compute},
                               {"communication_seconds", predicted.communication},
                               {"predicted_seconds", predicted.total},
                               {"measured_seconds", measured},
                               {"predicted_by_measured", predicted.total / measured}};
  std::printf("%s\n", line.dump().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  shorten_thread_waiting(argv);
  CLI::App app("Compares measured training steps of several ranks with their prediction.");
  Arguments arguments;
  app.add_option("--layers", arguments.layers)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--hidden", arguments.hidden, "a multiple of 64")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--vocab", arguments.vocab)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--rows", arguments.rows)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--tokens", arguments.tokens)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--bucket-mib", arguments.bucket_mib)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--seconds", arguments.seconds, "of each measurement")->check(CLI::PositiveNumber)->capture_default_str();
  return run_program(app, argc, argv, [&] {
    const std::shared_ptr<Communicator> communicator = connect_processes(started_rank());
    return run_as_rank(communicator->rank(), [&] { return run(arguments, *communicator); });
  });
}
