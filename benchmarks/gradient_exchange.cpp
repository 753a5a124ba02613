// How much of the exchange of gradients is hidden behind the backward pass.
//   mpirun -n 2 --bind-to none build/release-cpu/bin/benchmarks/gradient_exchange [--bucket-mib 25] [--shard] [--bfloat16-wire]
// Trains a Llama of 6 layers of width 768 on random tokens. Prints one line of JSON with medians of rank 0: seconds of a step,
// seconds that it waited for exchanges, seconds of the same exchanges when nothing else runs, and the share that was hidden.
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
#include "training/optimizer.h"

namespace {

using namespace echo;

struct Arguments {
  double bucket_mib = 25;
  bool shard = false, bfloat16_wire = false;
  int64_t rows = 4, threads = 1, steps = 7;
};

LlamaConfig model_of_six_layers() {
  LlamaConfig config;
  config.num_hidden_layers = 6, config.hidden_size = 768, config.num_attention_heads = 12, config.num_key_value_heads = 12;
  config.head_dim = 64, config.intermediate_size = 2048, config.vocab_size = 8000;
  return config;
}

Batch random_rows(int64_t rows, int64_t vocabulary, uint64_t seed) {
  Batch batch;
  batch.rows = rows;
  batch.sequence_length = 256;
  batch.valid_tokens = rows * batch.sequence_length;
  RandomSequence random(seed);
  for (int64_t i = 0; i < batch.valid_tokens; ++i) {
    batch.inputs.push_back(int32_t(random.below(uint64_t(vocabulary))));
    batch.labels.push_back(int32_t(random.below(uint64_t(vocabulary))));
  }
  return batch;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int run(const Arguments& arguments, Communicator& ranks) {
  omp_set_num_threads(int(arguments.threads));
  const LlamaConfig config = model_of_six_layers();
  const auto model = make_model(config, LeaderMap::own(config.num_hidden_layers), {});
  initialize(*model, 0.02, 1);
  GradientBuckets buckets(ranks, backward_order(*model),
                          {.bytes = int64_t(arguments.bucket_mib * (1 << 20)),
                           .bfloat16_wire = arguments.bfloat16_wire,
                           .scatter = arguments.shard});
  std::unique_ptr<ParameterBuckets> parameters;
  if (arguments.shard) parameters = std::make_unique<ParameterBuckets>(ranks, buckets.buckets());
  AdamW optimizer = arguments.shard ? AdamW(*model, {}, *parameters) : AdamW(*model, {});
  const Batch batch = random_rows(arguments.rows, config.vocab_size, uint64_t(ranks.rank()));

  std::vector<double> step, waited, exchange;
  using Clock = std::chrono::steady_clock;
  const auto elapsed = [](Clock::time_point from) { return std::chrono::duration<double>(Clock::now() - from).count(); };
  for (int64_t i = 0; i < arguments.steps; ++i) {
    ranks.barrier();
    const auto start = Clock::now();
    const double before = buckets.seconds_waited();
    buckets.start_in_next_pass();
    accumulate_gradients(*model, nullptr, batch, true_label_loss(), {}, batch.valid_tokens * ranks.world());
    buckets.finish();
    waited.push_back(buckets.seconds_waited() - before);
    optimizer.step(1e-4, buckets.norm());
    buckets.clear();
    step.push_back(elapsed(start));
    ranks.barrier();
    const auto alone = Clock::now();
    buckets.start_in_next_pass();
    buckets.finish();
    exchange.push_back(elapsed(alone));
  }
  if (!ranks.is_first()) return 0;
  const nlohmann::json line = {{"ranks", ranks.world()},
                               {"threads", arguments.threads},
                               {"parameters", model->parameter_count()},
                               {"buckets", buckets.buckets().size()},
                               {"shard", arguments.shard},
                               {"step_seconds", median(step)},
                               {"wait_seconds", median(waited)},
                               {"exchange_seconds", median(exchange)},
                               {"hidden", 1 - median(waited) / median(exchange)}};
  std::printf("%s\n", line.dump().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  shorten_thread_waiting(argv);
  CLI::App app("Measures how much of the exchange of gradients is hidden behind the backward pass.");
  Arguments arguments;
  app.add_option("--bucket-mib", arguments.bucket_mib)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_flag("--shard", arguments.shard, "as shard_optimizer: true");
  app.add_flag("--bfloat16-wire", arguments.bfloat16_wire, "as gradient_wire: bfloat16");
  app.add_option("--rows", arguments.rows, "of 256 tokens, on each rank")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--threads", arguments.threads, "of each rank")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--steps", arguments.steps)->check(CLI::PositiveNumber)->capture_default_str();
  return run_program(app, argc, argv, [&] {
    const std::shared_ptr<Communicator> ranks = connect_processes(started_rank());
    return run(arguments, *ranks);
  });
}
