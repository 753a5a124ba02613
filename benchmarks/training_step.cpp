// Times training and distillation steps of a Llama with random weights on random tokens. benchmarks/run_cpu.sh compares it with
// PyTorch.
//   training_step --shape small|wide --step train|distill [--followers N] [--seconds S] [--dtype float32|bfloat16]
// Prints one line of JSON: median and best step, tokens per second.
#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/program.h"
#include "base/random.h"
#include "base/thread_waiting.h"
#include "nn/model_io.h"
#include "training/distillation.h"
#include "training/optimizer.h"

namespace {

using namespace echo;

struct Arguments {
  std::string shape = "small", step = "train", dtype = "float32";
  int64_t followers = 0;
  double seconds = 5;
};

struct Workload {
  LlamaConfig config;
  int64_t rows, tokens;
};

Workload workload(const std::string& shape) {
  Workload work;
  LlamaConfig& config = work.config;
  if (shape == "small") {  // stories12L
    config.num_hidden_layers = 12, config.hidden_size = 128, config.num_attention_heads = 8, config.num_key_value_heads = 4;
    config.head_dim = 16, config.intermediate_size = 344, config.vocab_size = 512;
    work.rows = 8;
  } else {
    config.num_hidden_layers = 6, config.hidden_size = 768, config.num_attention_heads = 12, config.num_key_value_heads = 12;
    config.head_dim = 64, config.intermediate_size = 3072, config.vocab_size = 32000;
    work.rows = 2;
  }
  config.rms_norm_eps = 1e-5;
  work.tokens = 256;
  return work;
}

// The first layers compute their own matrices. Then one block has the requested number of followers.
LeaderMap block_of(int64_t layers, int64_t followers) {
  std::vector<int64_t> leaders(size_t(layers), 0);
  const int64_t leader = std::max<int64_t>(0, (layers - followers) / 2);
  for (int64_t i = 0; i < layers; ++i) leaders[size_t(i)] = i > leader && i <= leader + followers ? leader : i;
  return LeaderMap(leaders);
}

int run(const Arguments& arguments) {
  const Workload work = workload(arguments.shape);
  const bool distill = arguments.step == "distill";
  const auto student = make_model(work.config, block_of(work.config.num_hidden_layers, arguments.followers), {});
  initialize(*student, 0.02, 1);
  std::unique_ptr<LanguageModel> teacher;
  if (distill) {
    teacher = make_model(work.config, LeaderMap::own(work.config.num_hidden_layers), {DType::f32, false});
    initialize(*teacher, 0.02, 2);
  }
  LossSettings loss = true_label_loss();
  if (distill) loss = stage_loss(settings::Distillation());  // the paper's weights
  Batch batch;
  batch.rows = work.rows;
  batch.sequence_length = work.tokens;
  batch.valid_tokens = work.rows * work.tokens;
  RandomSequence random(3);
  for (int64_t i = 0; i < batch.valid_tokens; ++i) {
    batch.inputs.push_back(int32_t(random.below(uint64_t(work.config.vocab_size))));
    batch.labels.push_back(int32_t(random.below(uint64_t(work.config.vocab_size))));
  }
  ForwardOptions options;
  options.compute_dtype = arguments.dtype == "bfloat16" ? DType::bf16 : DType::f32;
  AdamW optimizer(*student, {});
  double last_loss = 0;
  const auto step = [&] {
    const LossSums sums = accumulate_gradients(*student, teacher.get(), batch, loss, options, batch.valid_tokens);
    last_loss = sums.loss / double(sums.tokens);
    optimizer.step(1e-4, optimizer.gradient_norm());
    optimizer.clear_gradients();
  };
  using Clock = std::chrono::steady_clock;
  const auto elapsed = [](Clock::time_point from) { return std::chrono::duration<double>(Clock::now() - from).count(); };
  for (int i = 0; i < 3; ++i) step();
  std::vector<double> times;
  const auto start = Clock::now();
  while (elapsed(start) < arguments.seconds || times.size() < 5) {
    const auto begin = Clock::now();
    step();
    times.push_back(elapsed(begin));
  }
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  const nlohmann::json line = {{"engine", "echo"},         {"shape", arguments.shape},
                               {"step", arguments.step},   {"followers", arguments.followers},
                               {"dtype", arguments.dtype}, {"threads", omp_get_max_threads()},
                               {"steps", times.size()},    {"median_seconds", median},
                               {"best_seconds", times[0]}, {"tokens_per_second", double(batch.valid_tokens) / median},
                               {"loss", last_loss}};
  std::printf("%s\n", line.dump().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  shorten_thread_waiting(argv);
  CLI::App app("Times training and distillation steps.");
  Arguments arguments;
  app.add_option("--shape", arguments.shape)->check(CLI::IsMember({"small", "wide"}));
  app.add_option("--step", arguments.step)->check(CLI::IsMember({"train", "distill"}));
  app.add_option("--dtype", arguments.dtype)->check(CLI::IsMember({"float32", "bfloat16"}));
  app.add_option("--followers", arguments.followers)->check(CLI::Range(0, 11));
  app.add_option("--seconds", arguments.seconds)->check(CLI::PositiveNumber);
  return run_program(app, argc, argv, [&] { return run(arguments); });
}
