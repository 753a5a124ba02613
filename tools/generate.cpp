// ./generate: continues a text with a Llama, teacher or student, and streams the result.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>

#include "base/program.h"
#include "base/thread_waiting.h"
#include "hub/paths.h"
#include "nn/generator.h"
#include "nn/model_io.h"
#include "tensor/allocator.h"
#include "tensor/device_choice.h"
#include "tokenizer/tokenizer.h"

namespace {

using namespace echo;

struct Arguments {
  std::string model, dtype = "auto", device = "auto";
  std::vector<std::string> prompts;
  GenerationOptions generation;
};

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    fail(ExitCode::io, "standard output: writing failed");
}

// The beginning token, if there is one, and the prompt. Throws Error (usage) when there is nothing to continue.
std::vector<int32_t> ids_of_prompt(const std::string& prompt, const LlamaConfig& config, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  if (config.bos_token_id.has_value())
    ids.push_back(int32_t(*config.bos_token_id));
  else if (tokenizer.bos_id() >= 0)
    ids.push_back(tokenizer.bos_id());
  const std::vector<int32_t> text = tokenizer.encode(prompt);
  ids.insert(ids.end(), text.begin(), text.end());
  if (ids.empty())
    fail(ExitCode::usage, "--prompt: is empty, and this model has no token to begin a text with; give some text");
  if (int64_t(ids.size()) >= config.max_position_embeddings)
    fail(ExitCode::usage, "--prompt: has ", ids.size(), " tokens, but the model reads texts of at most ",
         config.max_position_embeddings, "; shorten it");
  return ids;
}

std::string rate(int64_t tokens, double seconds) {
  return tokens > 0 && seconds > 0 ? fmt::format("{} tokens, {:.0f} tokens/s", tokens, double(tokens) / seconds)
                                   : fmt::format("{} tokens", tokens);
}

int generate_text(const Arguments& arguments) {
  set_memory_remedy("fewer prompts at a time, a smaller --max-new-tokens or --dtype bfloat16 needs less");
  const auto start = std::chrono::steady_clock::now();
  const std::filesystem::path folder = resolve_model(arguments.model, "--model");
  const Tokenizer tokenizer(folder / "tokenizer.model");
  const CheckpointReader checkpoint(folder);
  const LlamaConfig& config = checkpoint.config();
  if (tokenizer.vocabulary_size() != config.vocab_size)
    fail(ExitCode::bad_data, folder.string(), ": tokenizer.model has ", tokenizer.vocabulary_size(),
         " pieces, but config.json says vocab_size ", config.vocab_size, "; use the tokenizer that the model was trained with");
  GenerationOptions options = arguments.generation;
  const std::vector<std::string> texts = arguments.prompts.empty() ? std::vector<std::string>{""} : arguments.prompts;
  std::vector<std::vector<int32_t>> prompts;
  bool limited = false;
  for (const std::string& text : texts) {
    prompts.push_back(ids_of_prompt(text, config, tokenizer));
    const int64_t room = config.max_position_embeddings - int64_t(prompts.back().size());
    limited |= arguments.generation.max_new_tokens > room;
    options.max_new_tokens = std::min(options.max_new_tokens, room);
  }
  const ChosenDevice chosen = choose_device(arguments.device);
  const bool in_bf16 = arguments.dtype == "bfloat16" || (arguments.dtype == "auto" && !chosen.device.is_cpu());
  options.compute_dtype = in_bf16 ? DType::bf16 : DType::f32;
  fmt::print(stderr, "device: {}, computing in {}\n", chosen.reason, in_bf16 ? "bfloat16" : "float32");
  const auto model = load_model(checkpoint, {options.compute_dtype, /*requires_gradient=*/false, chosen.device});
  const double load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  // A single text is streamed. Several texts are printed when all are done.
  const bool stream = texts.size() == 1;
  std::vector<StreamingDecoder> decoders;
  std::vector<std::string> written = texts;
  for (const std::vector<int32_t>& prompt : prompts) {
    decoders.emplace_back(tokenizer);
    for (const int32_t id : prompt) decoders.back().push(id);
  }
  if (stream) print(texts[0]);
  const GenerationStatistics statistics = generate(*model, prompts, options, [&](size_t i, int32_t id) {
    const std::string text = decoders[i].push(id);
    if (stream) print(text);
    written[i] += text;
  });
  for (size_t i = 0; i < texts.size(); ++i) print((stream ? "" : written[i]) + decoders[i].finish() + "\n");

  if (limited && std::find(statistics.ended.begin(), statistics.ended.end(), false) != statistics.ended.end())
    fmt::print(stderr, "note: stopped at {} positions, the longest text of this model\n", config.max_position_embeddings);
  fmt::print(stderr, "load {:.2f} s | prefill {} | decode {}\n", load_seconds,
             rate(statistics.prompt_tokens, statistics.prefill_seconds),
             rate(statistics.decode_steps * int64_t(texts.size()), statistics.decode_seconds));
  return 0;
}

// CLI11's own conversion reads -3 as a large unsigned number and truncates numbers that are too large. Its range check accepts
// NaN.
CLI::Validator whole_number() {
  return CLI::Validator(
      [](std::string& text) {
        const bool digits = !text.empty() && text.size() <= 18 && text.find_first_not_of("0123456789") == std::string::npos;
        return digits ? "" : text + ": expected a whole number from 0, of at most 18 digits";
      },
      "WHOLE");
}
CLI::Validator number_where(const std::string& description, const std::function<bool(double)>& accepts) {
  return CLI::Validator(
      [=](std::string& text) {
        double value = 0;
        return CLI::detail::lexical_cast(text, value) && accepts(value) ? "" : text + ": expected " + description;
      },
      description);
}

}  // namespace

int main(int argc, char** argv) {
  shorten_thread_waiting(argv);
  CLI::App app("Continues a text. Prompt and continuation go to standard output, timings to standard error.\n", "generate");
  Arguments arguments;
  SamplingOptions& sampling = arguments.generation.sampling;
  app.add_option("--model", arguments.model, "folder of the model (config.json, weights, tokenizer.model)")->required();
  app.add_option("--prompt", arguments.prompts,
                 "text to continue (--prompt=-x for one that begins with a dash); may be given several times")
      ->allow_extra_args(false);
  app.add_option("--max-new-tokens", arguments.generation.max_new_tokens, "largest number of tokens to write")
      ->capture_default_str()
      ->check(whole_number());
  app.add_option("--temperature", sampling.temperature, "0: always the most likely token; higher: more varied")
      ->capture_default_str()
      ->check(number_where("a number from 0", [](double value) { return value >= 0 && std::isfinite(value); }));
  app.add_option("--top-k", sampling.top_k, "choose among the K most likely tokens; 0: among all")
      ->capture_default_str()
      ->check(whole_number());
  app.add_option("--top-p", sampling.top_p, "choose among the most likely tokens whose probabilities add up to P")
      ->capture_default_str()
      ->check(number_where("a number above 0, up to 1", [](double value) { return value > 0 && value <= 1; }));
  app.add_option("--seed", sampling.seed, "seed for sampling")->capture_default_str()->check(whole_number());
  app.add_option("--dtype", arguments.dtype,
                 "precision of the computation: auto (bfloat16 on a GPU, float32 on the CPU), float32 or bfloat16")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "float32", "bfloat16"}));
  app.add_option("--device", arguments.device, "auto (a GPU if there is one), cpu, cuda or cuda:N")->capture_default_str();
  return run_program(app, argc, argv, [&] { return generate_text(arguments); });
}
