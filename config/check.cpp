#include "config/check.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "base/error.h"
#include "config/value.h"
#include "tensor/device_choice.h"

namespace echo {
namespace {

using settings::Mode;
using settings::PlanMethod;

struct Problem {
  std::string key;
  std::string text;
};

// These limits keep every product of settings far below 2^63.
constexpr int64_t kMostPerStep = 1'000'000;           // sequences, micro-batches, tokens of a sequence
constexpr int64_t kMostTokens = 100'000'000'000'000;  // of an epoch
constexpr double kMostEpochs = 10'000.0;
constexpr int64_t kMostSteps = 1'000'000'000;
constexpr int64_t kMostWidth = 1 << 24;  // of any dimension of the model
constexpr int64_t kMostLayers = 10'000;

class Checker {
 public:
  // If the mode could not be read, the keys that a mode requires are not checked.
  explicit Checker(const TrainConfig& config, bool mode_is_known = true) : c_(config), mode_is_known_(mode_is_known) {}

  std::vector<Problem> run() {
    general();
    schedule();
    optimizer();
    distillation();
    data();
    plan();
    if (c_.mode == Mode::pretrain) model();
    if (mode_is_known_) needed();
    return std::move(problems_);
  }

 private:
  void require(bool good, const std::string& key, const std::string& text) {
    if (!good) problems_.push_back({key, text});
  }

  template <class T>
  void between(const std::string& key, T value, T low, T high) {
    require(value >= low && value <= high, key,
            concat("is ", print_value(value), "; a value from ", print_value(low), " to ", print_value(high), " is expected"));
  }

  void positive(const std::string& key, double value, const char* example) {
    require(value > 0, key, concat("is ", print_value(value), "; a value above 0 is expected, e.g. ", key, "=", example));
  }

  void not_negative(const std::string& key, double value) {
    require(value >= 0, key, concat("is ", print_value(value), "; 0 or more is expected"));
  }

  void general() {
    require(!c_.output_dir.empty(), "output_dir", "is empty; the folder of the run is expected, e.g. output_dir=runs/first");
    require(!c_.resume_from_checkpoint.empty(), "resume_from_checkpoint",
            "is empty; auto, none or the path of a checkpoint folder is expected");
    not_negative("seed", double(c_.seed));
    require(is_device_setting(c_.device), "device",
            concat(quote(c_.device), "; auto, cpu, cuda or cuda:N (a GPU's number) is expected, e.g. device=auto"));
    require(c_.compute_dtype != settings::ComputeType::float64 || !c_.device.starts_with("cuda"), "device",
            concat(quote(c_.device), ": float64 is computed on the CPU; write device: cpu, or another compute_dtype"));
    between<int64_t>("threads", c_.threads, 0, 4096);
    positive("comm_timeout", c_.comm_timeout, "1800");
    positive("gradient_bucket_mib", c_.gradient_bucket_mib, "25");
    require(c_.gradient_wire == settings::GradientWire::float32 || c_.compute_dtype != settings::ComputeType::float64,
            "gradient_wire", "is bfloat16, which would round the gradients of a float64 run; float32 is expected");
    between<int64_t>("logging_steps", c_.logging_steps, 1, kMostSteps);
    between<int64_t>("eval_steps", c_.eval_steps, 0, kMostSteps);
    between<int64_t>("eval_rows", c_.eval_rows, 1, kMostSteps);
    between<int64_t>("save_steps", c_.save_steps, 0, kMostSteps);
    between<int64_t>("save_total_limit", c_.save_total_limit, 0, kMostSteps);
    between<int64_t>("per_device_train_batch_size", c_.per_device_train_batch_size, 1, kMostPerStep);
    between<int64_t>("per_device_eval_batch_size", c_.per_device_eval_batch_size, 1, kMostPerStep);
    between<int64_t>("gradient_accumulation_steps", c_.gradient_accumulation_steps, 1, kMostPerStep);
  }

  void schedule() {
    require(c_.max_steps == -1 || (c_.max_steps >= 1 && c_.max_steps <= kMostSteps), "max_steps",
            concat("is ", c_.max_steps, "; -1 (no limit) or a number of steps from 1 up is expected"));
    require(c_.data.epoch_tokens != 0 || c_.max_steps != -1, "data.epoch_tokens",
            "neither this nor max_steps says how long to train; give one, e.g. data.epoch_tokens=1e6 or max_steps=100");
    between<int64_t>("data.epoch_tokens", c_.data.epoch_tokens, 0, kMostTokens);
    between("warmup_ratio", c_.warmup_ratio, 0.0, 1.0);
    between<int64_t>("warmup_steps", c_.warmup_steps, 0, kMostSteps);
    const auto epochs = [&](const std::string& key, double value) {
      require(value > 0 && value <= kMostEpochs, key,
              concat("is ", print_value(value), "; a value above 0 and up to ", kMostEpochs, " is expected"));
    };
    if (c_.mode != Mode::distill) return epochs("num_train_epochs", c_.num_train_epochs);
    for (const auto& [name, stage] : {std::pair{"stage1", &c_.stage1}, std::pair{"stage2", &c_.stage2}}) {
      if (!stage->enabled) continue;
      epochs(concat(name, ".num_train_epochs"), stage->num_train_epochs);
      not_negative(concat(name, ".learning_rate"), stage->learning_rate);
    }
    require(c_.stage1.enabled || c_.stage2.enabled, "stage1.enabled",
            "is false, and so is stage2.enabled; set one of them to true");
  }

  void optimizer() {
    positive("learning_rate", c_.learning_rate, "1e-4");
    not_negative("weight_decay", c_.weight_decay);
    const auto beta = [&](const char* key, double value) {
      require(value >= 0 && value < 1, key, concat("is ", print_value(value), "; a value from 0 to below 1 is expected"));
    };
    beta("adam_beta1", c_.adam_beta1);
    beta("adam_beta2", c_.adam_beta2);
    positive("adam_epsilon", c_.adam_epsilon, "1e-8");
    not_negative("max_grad_norm", c_.max_grad_norm);
  }

  void distillation() {
    const settings::Distillation& d = c_.distillation;
    not_negative("distillation.hidden_weight", d.hidden_weight);
    not_negative("distillation.kl_weight", d.kl_weight);
    not_negative("distillation.hard_label_weight", d.hard_label_weight);
    not_negative("distillation.true_label_weight", d.true_label_weight);
    positive("distillation.temperature", d.temperature, "1");
    if (c_.mode == Mode::distill && c_.stage1.enabled)
      require(d.hidden_weight != 0 || d.kl_weight != 0 || d.hard_label_weight != 0 || d.true_label_weight != 0,
              "distillation.kl_weight", "all weights of the loss are 0; at least one above 0 is expected");
  }

  void data() {
    between<int64_t>("data.sequence_length", c_.data.sequence_length, 2, kMostPerStep);
    require(c_.data.validation_fraction >= 0 && c_.data.validation_fraction < 1, "data.validation_fraction",
            concat("is ", print_value(c_.data.validation_fraction), "; a value from 0 to below 1 is expected"));
    between("data.max_bad_fraction", c_.data.max_bad_fraction, 0.0, 1.0);
    for (const auto& [name, weight] : c_.data.set_weights) {
      require(weight >= 0, "data.set_weights",
              concat("gives ", name, " the weight ", print_value(weight), "; 0 or more is expected"));
    }
    positive("data.cache_gib", c_.data.cache_gib, "20");
    between<int64_t>("data.max_skipped_shards", c_.data.max_skipped_shards, 0, 1'000'000);
    between<int64_t>("data.shuffle_tokens", c_.data.shuffle_tokens, 1, int64_t{1} << 28);
    std::set<std::string> seen;
    for (const std::string& name : c_.data.set_names) {
      require(!name.empty(), "data.set_names", "holds an empty name; leave it out, [] keeps all documents");
      require(seen.insert(name).second, "data.set_names", concat("names ", quote(name), " twice; keep one"));
    }
  }

  void plan() {
    leader_map();
    const settings::Plan& p = c_.student.plan;
    const std::string key = "student.plan.";
    not_negative(key + "followers", double(p.followers));
    not_negative(key + "budget_parameters", double(p.budget_parameters));
    not_negative(key + "budget_flops", double(p.budget_flops));
    not_negative(key + "budget_cache_bytes", double(p.budget_cache_bytes));
    between<int64_t>(key + "analysis_samples", p.analysis_samples, 1, kMostPerStep);
    between<int64_t>(key + "analysis_sequence_length", p.analysis_sequence_length, 2, kMostPerStep);
    std::set<int64_t> seen;
    for (const int64_t layer : p.layers) {
      require(layer >= 0 && layer < kMostLayers, key + "layers",
              concat("names layer ", layer, "; layer numbers from 0 are expected"));
      require(seen.insert(layer).second, key + "layers", concat("names layer ", layer, " twice; keep one"));
    }
    if (p.method == PlanMethod::none) {
      require(p.layers.empty() && p.followers == 0, key + "method",
              "is none, but layers or followers are given; write the method that is meant, e.g. "
              "student.plan.method=optimal");
      return;
    }
    require(c_.student.leader_map.empty(), "student.leader_map",
            concat("is given, and so is student.plan.method (", print_value(p.method),
                   "); one is expected: empty the list, or "
                   "student.plan.method=none"));
    const bool paper = p.method == PlanMethod::paper_following || p.method == PlanMethod::paper_lending;
    const int budgets = (p.followers > 0) + (p.budget_parameters > 0) + (p.budget_flops > 0) + (p.budget_cache_bytes > 0);
    const bool ranked = p.method == PlanMethod::optimal || (paper && p.layers.empty());
    if (p.method == PlanMethod::list)
      require(!p.layers.empty(), key + "layers", "is empty; method list needs the layers that follow, e.g. [2, 3, 5]");
    if (paper)
      require(p.layers.empty() != (p.followers == 0), key + "layers",
              "the paper's methods take either layers or a number of followers; give exactly one of student.plan.layers and "
              "student.plan.followers");
    if (p.method == PlanMethod::optimal)
      require(budgets == 1, key + "followers",
              concat(budgets == 0 ? "no budget is given" : "more than one budget is given",
                     "; optimal needs exactly one of followers, budget_parameters, budget_flops and budget_cache_bytes"));
    if (p.method == PlanMethod::optimal || p.method == PlanMethod::uniform)
      require(p.layers.empty(), key + "layers",
              concat("is not used by method ", print_value(p.method), "; empty it, or student.plan.method=list"));
    if (p.method == PlanMethod::uniform) {
      between<int64_t>(key + "first_shared", p.first_shared, 0, kMostLayers);
      between<int64_t>(key + "block_size", p.block_size, 2, kMostLayers);
      between<int64_t>(key + "blocks", p.blocks, 1, kMostLayers);
    }
    if (ranked && c_.mode == Mode::pretrain)
      require(!p.analysis.empty(), key + "analysis",
              "is empty; random start weights have no similarities to plan from; give an analysis.json, or use method list or "
              "uniform");
  }

  void leader_map() {
    const std::vector<int64_t>& map = c_.student.leader_map;
    const std::string key = "student.leader_map";
    for (size_t i = 0; i < map.size(); ++i) {
      const bool earlier = map[i] >= 0 && map[i] <= int64_t(i);
      require(earlier, key,
              concat("layer ", i, " has leader ", map[i], "; its own number or that of an earlier layer is expected"));
      require(!earlier || map[size_t(map[i])] == map[i], key,
              concat("layer ", i, " follows layer ", map[i],
                     ", which is itself a follower; name the layer that computes the matrix"));
    }
    if (c_.mode == Mode::pretrain && !map.empty())
      require(int64_t(map.size()) == c_.model.num_hidden_layers, key,
              concat("has ", map.size(), " entries for model.num_hidden_layers=", c_.model.num_hidden_layers,
                     "; one entry per layer is expected"));
  }

  void model() {
    const settings::Model& m = c_.model;
    for (const auto& [name, value] :
         {std::pair{"hidden_size", m.hidden_size}, std::pair{"intermediate_size", m.intermediate_size},
          std::pair{"num_hidden_layers", m.num_hidden_layers}, std::pair{"num_attention_heads", m.num_attention_heads}}) {
      const std::string key = concat("model.", name);
      require(value != 0, key, concat("is missing; pretrain needs it, e.g. ", key, "=8"));
      require(value >= 0 && value <= kMostWidth, key, concat("is ", value, "; a size above 0 is expected"));
    }
    between<int64_t>("model.num_key_value_heads", m.num_key_value_heads, 0, kMostWidth);
    between<int64_t>("model.head_dim", m.head_dim, 0, kMostWidth);
    between<int64_t>("model.vocab_size", m.vocab_size, 0, kMostWidth);
    between<int64_t>("model.max_position_embeddings", m.max_position_embeddings, 2, kMostWidth);
    positive("model.rms_norm_eps", m.rms_norm_eps, "1e-5");
    positive("model.rope_theta", m.rope_theta, "10000");
    positive("model.initializer_range", m.initializer_range, "0.02");
    require(c_.data.sequence_length <= m.max_position_embeddings, "data.sequence_length",
            concat("is ", c_.data.sequence_length, ", longer than model.max_position_embeddings=", m.max_position_embeddings,
                   "; shorten the sequences or raise that limit"));
    const int64_t heads = m.num_attention_heads;
    if (heads <= 0 || m.hidden_size <= 0) return;
    if (m.num_key_value_heads > 0)
      require(heads % m.num_key_value_heads == 0, "model.num_key_value_heads",
              concat("is ", m.num_key_value_heads, ", which does not divide model.num_attention_heads=", heads,
                     "; a divisor is expected, or 0 for the same number"));
    if (m.head_dim > 0)
      return require(m.head_dim % 2 == 0, "model.head_dim", concat("is ", m.head_dim, "; an even width is expected"));
    require(m.hidden_size % heads == 0, "model.num_attention_heads",
            concat("is ", heads, ", which does not divide model.hidden_size=", m.hidden_size,
                   "; a divisor is expected, or give model.head_dim"));
    if (m.hidden_size % heads == 0)
      require(m.hidden_size / heads % 2 == 0, "model.num_attention_heads",
              concat("makes heads of width ", m.hidden_size / heads, "; an even width is expected"));
  }

  // Keys that each mode requires.
  void needed() {
    const std::string mode(settings::name_of(c_.mode));
    require(!c_.data.path.empty(), "data.path",
            "is missing; every mode needs text to train on, e.g. data.path=corpora/stories");
    switch (c_.mode) {
      case Mode::distill:
        require(!c_.teacher.model_name_or_path.empty(), "teacher.model_name_or_path",
                "is missing; mode distill needs a teacher, e.g. teacher.model_name_or_path=models/stories12L");
        require(!c_.student.leader_map.empty() || c_.student.plan.method != PlanMethod::none ||
                    !c_.student.model_name_or_path.empty(),
                "student.plan.method",
                "is none, and there is no student.leader_map or student.model_name_or_path: the student would be the "
                "teacher itself; give one, e.g. student.plan.method=optimal student.plan.followers=4");
        break;
      case Mode::pretrain:
        require(!c_.tokenizer.empty(), "tokenizer", "is missing; mode pretrain needs the path of a tokenizer.model");
        break;
      case Mode::continue_training:
        require(!c_.student.model_name_or_path.empty(), "student.model_name_or_path",
                "is missing; mode continue needs start weights, e.g. student.model_name_or_path=runs/first/final");
        break;
    }
  }

  const TrainConfig& c_;
  bool mode_is_known_;
  std::vector<Problem> problems_;
};

}  // namespace

std::vector<std::string> validate_config(const TrainConfig& config) {
  std::vector<std::string> lines;
  for (const Problem& problem : Checker(config).run()) lines.push_back(problem.key + ": " + problem.text);
  return lines;
}

std::vector<std::string> check_config(const ConfigReading& reading) {
  std::vector<std::string> lines = reading.problems;
  if (!reading.readable) return lines;           // checking default values makes no sense
  const auto is_faulty = [&](std::string key) {  // the key itself, or a section that contains it
    while (!reading.faulty.contains(key)) {
      const size_t dot = key.rfind('.');
      if (dot == std::string::npos) return false;
      key.resize(dot);
    }
    return true;
  };
  for (const Problem& problem : Checker(reading.config, !reading.faulty.contains("mode")).run()) {
    if (is_faulty(problem.key)) continue;
    const auto origin = reading.origins.find(problem.key);
    lines.push_back(
        concat(origin == reading.origins.end() ? reading.source : origin->second, ": ", problem.key, ": ", problem.text));
  }
  return lines;
}

TrainConfig load_config(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  ConfigReading reading = read_config(path, overrides);
  const std::vector<std::string> problems = check_config(reading);
  if (problems.empty()) return std::move(reading.config);
  std::string message;
  for (const std::string& problem : problems) message += (message.empty() ? "" : "\n") + problem;
  throw Error(ExitCode::config, message);
}

int64_t tokens_per_step(const TrainConfig& config, int64_t world) {
  return config.data.sequence_length * config.per_device_train_batch_size * config.gradient_accumulation_steps * world;
}

int64_t stage_steps(const TrainConfig& config, int number, int64_t world) {
  const bool distill = config.mode == Mode::distill;
  if (number < 1 || number > (distill ? 2 : 1)) return 0;
  const settings::Stage& stage = number == 1 ? config.stage1 : config.stage2;
  if (distill && !stage.enabled) return 0;
  if (config.data.epoch_tokens <= 0) {
    if (config.max_steps > 0) return config.max_steps;
    fail(ExitCode::config, "data.epoch_tokens: neither this nor max_steps says how long to train; give one");
  }
  const double epochs = distill ? stage.num_train_epochs : config.num_train_epochs;
  const double exact = epochs * double(config.data.epoch_tokens) / double(tokens_per_step(config, world));
  ECHO_CHECK(exact >= 0 && exact < 9e18, "stage_steps: ", exact, " steps: the configuration has not been validated");
  // Rounding of `epochs` (0.1 is slightly more than a tenth) must not add a step.
  const int64_t steps = std::max<int64_t>(1, int64_t(std::ceil(exact * (1 - 1e-12))));
  return config.max_steps > 0 ? std::min(steps, config.max_steps) : steps;
}

std::vector<TrainingStage> training_stages(const TrainConfig& config, int64_t world) {
  const bool distill = config.mode == Mode::distill;
  std::vector<TrainingStage> stages;
  for (const int number : {1, 2}) {
    const int64_t steps = stage_steps(config, number, world);
    if (steps == 0) continue;
    const double own_rate = !distill ? 0.0 : number == 1 ? config.stage1.learning_rate : config.stage2.learning_rate;
    const int64_t from_ratio = int64_t(std::ceil(config.warmup_ratio * double(steps) * (1 - 1e-12)));
    stages.push_back({number, distill && number == 1, steps,
                      std::min(steps, config.warmup_steps > 0 ? config.warmup_steps : from_ratio),
                      own_rate > 0 ? own_rate : config.learning_rate});
  }
  return stages;
}

int64_t steps_of(const std::vector<TrainingStage>& stages) {
  int64_t total = 0;
  for (const TrainingStage& stage : stages) total += stage.steps;
  return total;
}

}  // namespace echo
