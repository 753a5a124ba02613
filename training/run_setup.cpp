#include "training/run_setup.h"

#include "base/error.h"
#include "hub/paths.h"
#include "kernels/matmul/matmul.h"
#include "nn/model_io.h"
#include "tensor/allocator.h"
#include "training/memory_plan.h"
#include "training/plan_setup.h"

namespace echo {
namespace {

namespace fs = std::filesystem;
using settings::Mode;

bool distills(const TrainConfig& config) { return config.mode == Mode::distill; }

// Where the student's weights, or at least its shape and tokenizer, come from; empty when it starts from nothing.
std::string start_model(const TrainConfig& config) {
  if (!config.student.model_name_or_path.empty()) return config.student.model_name_or_path;
  return distills(config) ? config.teacher.model_name_or_path : "";
}

std::string start_key(const TrainConfig& config) {
  return config.student.model_name_or_path.empty() ? "teacher.model_name_or_path" : "student.model_name_or_path";
}

fs::path find_tokenizer(const TrainConfig& config) {
  if (!config.tokenizer.empty()) return resolve_input(config.tokenizer, "tokenizer");
  const std::string model = distills(config) ? config.teacher.model_name_or_path : start_model(config);
  if (model.empty()) fail(ExitCode::config, "tokenizer: not given; pretrain needs the path of a tokenizer.model");
  const fs::path file =
      resolve_model(model, distills(config) ? "teacher.model_name_or_path" : start_key(config)) / "tokenizer.model";
  if (!fs::exists(file))
    fail(ExitCode::input_missing, file.string(), ": not found; put the model's tokenizer.model there, or set tokenizer=FILE");
  return file;
}

void check_vocabulary(const Tokenizer& tokenizer, const fs::path& tokenizer_file, int64_t vocabulary,
                      const std::string& model) {
  if (tokenizer.vocabulary_size() != vocabulary)
    fail(ExitCode::bad_data, tokenizer_file.string(), ": ", tokenizer.vocabulary_size(), " pieces, but ", model,
         " has vocab_size ", vocabulary, "; use the tokenizer that the model was trained with");
}

LlamaConfig pretraining_config(const settings::Model& model, const Tokenizer& tokenizer) {
  LlamaConfig config;
  config.vocab_size = model.vocab_size > 0 ? model.vocab_size : tokenizer.vocabulary_size();
  config.hidden_size = model.hidden_size;
  config.intermediate_size = model.intermediate_size;
  config.num_hidden_layers = model.num_hidden_layers;
  config.num_attention_heads = model.num_attention_heads;
  config.num_key_value_heads = model.num_key_value_heads > 0 ? model.num_key_value_heads : model.num_attention_heads;
  config.head_dim = model.head_dim > 0 ? model.head_dim : model.hidden_size / model.num_attention_heads;
  config.max_position_embeddings = model.max_position_embeddings;
  config.rms_norm_eps = model.rms_norm_eps;
  config.rope_theta = model.rope_theta;
  config.tie_word_embeddings = model.tie_word_embeddings;
  config.initializer_range = model.initializer_range;
  if (tokenizer.bos_id() >= 0) config.bos_token_id = tokenizer.bos_id();
  if (tokenizer.eos_id() >= 0) config.eos_token_id = {tokenizer.eos_id()};
  validate(config, "model", ExitCode::config);
  return config;
}

DType teacher_dtype(const TrainConfig& config, DType stored) {
  if (compute_dtype_of(config) == DType::f64) return DType::f64;  // a check in f64 needs its teacher in f64
  switch (config.teacher.dtype) {
    case settings::StorageType::automatic:
      return stored;
    case settings::StorageType::float32:
      return DType::f32;
    case settings::StorageType::bfloat16:
      return DType::bf16;
    case settings::StorageType::float64:
      return DType::f64;
  }
  return stored;
}

// The block ends are compared layer by layer and head by head: the shapes must be the same.
void check_same_shape(const LlamaConfig& student, const LlamaConfig& teacher) {
  if (student.num_hidden_layers != teacher.num_hidden_layers || student.hidden_size != teacher.hidden_size ||
      student.vocab_size != teacher.vocab_size)
    fail(ExitCode::config, "student.model_name_or_path: ", student.num_hidden_layers, " layers of width ", student.hidden_size,
         ", vocabulary ", student.vocab_size, "; the teacher has ", teacher.num_hidden_layers, " of ", teacher.hidden_size,
         ", vocabulary ", teacher.vocab_size, "; distillation compares them layer by layer");
}

}  // namespace

DataSettings data_settings_of(const TrainConfig& config) {
  return {.path = resolve_input(config.data.path, "data.path").string(),
          .validation_path = config.data.validation_path.empty()
                                 ? ""
                                 : resolve_input(config.data.validation_path, "data.validation_path").string(),
          .validation_fraction = config.data.validation_fraction,
          .set_names = config.data.set_names,
          .sequence_length = config.data.sequence_length,
          .bos_per_document = config.data.bos_per_document,
          .reset_attention = config.data.reset_attention,
          .max_bad_fraction = config.data.max_bad_fraction,
          .seed = uint64_t(config.seed)};
}

DType compute_dtype_of(const TrainConfig& config) {
  switch (config.compute_dtype) {
    case settings::ComputeType::float32:
      return DType::f32;
    case settings::ComputeType::bfloat16:
      return DType::bf16;
    case settings::ComputeType::float64:
      return DType::f64;
  }
  return DType::f32;
}

ChosenDevice device_of(const TrainConfig& config) {
  if (config.device == "auto" && compute_dtype_of(config) == DType::f64) return {Device{}, "cpu: float64 is computed there"};
  return choose_device(config.device);
}

void check_start(const TrainConfig& config) {
  if (distills(config)) resolve_model(config.teacher.model_name_or_path, "teacher.model_name_or_path");
  if (!config.student.model_name_or_path.empty())
    resolve_model(config.student.model_name_or_path, "student.model_name_or_path");
  find_tokenizer(config);
  resolve_data_paths(data_settings_of(config));
}

TrainingRun prepare_run(const TrainConfig& config, const SetupOptions& options) {
  TrainingRun run;
  run.config = config;
  run.compute_dtype = compute_dtype_of(config);
  // Everything that can be missing is looked for before anything is loaded.
  const std::string start = start_model(config);
  check_start(config);
  const fs::path start_folder = start.empty() ? fs::path() : resolve_model(start, start_key(config));
  run.data = data_settings_of(config);
  run.tokenizer_file = find_tokenizer(config);
  run.tokenizer.emplace(run.tokenizer_file);

  const ChosenDevice chosen = device_of(config);
  run.device = chosen.device;
  const auto remark = [&](const std::string& line) {
    run.remarks.push_back(line);
    if (options.remark) options.remark(line);
  };
  remark("device: " + chosen.reason);
  kernels::allow_tf32(config.tf32);
  const WeightOptions weights{accumulator_dtype(run.compute_dtype), /*requires_gradient=*/true, run.device};
  const auto progress = options.analysis_progress ? options.analysis_progress : [](int64_t, int64_t) {};
  std::optional<CheckpointReader> checkpoint, teacher;
  if (options.checkpoint)
    checkpoint.emplace(*options.checkpoint);
  else if (!start.empty())
    checkpoint.emplace(start_folder);
  if (checkpoint) {
    run.description = checkpoint->description();
  } else {
    run.description.config = pretraining_config(config.model, *run.tokenizer);
    run.description.leader_map = LeaderMap::own(run.description.config.num_hidden_layers);
  }
  if (!options.checkpoint) {
    const PlannedMap planned =
        plan_leader_map(config, run.description.config, run.description.leader_map, start_folder, progress, run.device);
    run.description.leader_map = planned.leader_map;
    for (const std::string& line : planned.remarks) remark(line);
  }
  run.description.config.dtype = weights.dtype;
  check_vocabulary(*run.tokenizer, run.tokenizer_file, run.description.config.vocab_size,
                   start.empty() ? "the model" : start_folder.string());
  PlannedModels models{run.description.config, run.description.leader_map};
  WeightOptions teacher_weights{.requires_gradient = false, .device = run.device};
  if (distills(config)) {
    run.teacher_name = config.teacher.model_name_or_path;
    const fs::path folder = resolve_model(run.teacher_name, "teacher.model_name_or_path");
    teacher.emplace(folder);
    check_vocabulary(*run.tokenizer, run.tokenizer_file, teacher->config().vocab_size, folder.string());
    check_same_shape(run.description.config, teacher->config());
    if (!run.description.teacher) run.description.teacher = identify_model(folder, run.teacher_name);
    teacher_weights.dtype = teacher_dtype(config, teacher->config().dtype);
    models.teacher_bytes = parameter_count(teacher->config(), teacher->leader_map()) * size_of(teacher_weights.dtype);
    models.teacher_matches_compute = teacher_weights.dtype == run.compute_dtype;
  }
  // Said before the first weight is loaded: what does not fit may end there.
  remark(describe_memory(config, models, !run.device.is_cpu(), available_memory(run.device)));

  if (checkpoint) {
    run.student =
        options.checkpoint ? load_model(*checkpoint, weights) : load_student(*checkpoint, run.description.leader_map, weights);
  } else {
    run.student = make_model(run.description.config, run.description.leader_map, weights);
    initialize(*run.student, run.description.config.initializer_range, uint64_t(config.seed));
  }
  if (teacher) run.teacher = load_model(*teacher, teacher_weights);
  return run;
}

std::vector<std::string> check_inputs(const TrainConfig& config) {
  std::vector<std::string> problems;
  const auto attempt = [&](const auto& check) {
    try {
      check();
    } catch (const Error& error) {
      problems.push_back(error.what());
    }
  };
  std::optional<Tokenizer> tokenizer;
  attempt([&] { tokenizer.emplace(find_tokenizer(config)); });
  attempt([&] { resolve_data_paths(data_settings_of(config)); });
  const auto check_model = [&](const std::string& name, const std::string& key) {
    const CheckpointReader checkpoint(resolve_model(name, key));
    checkpoint.check();
    if (tokenizer)
      check_vocabulary(*tokenizer, find_tokenizer(config), checkpoint.config().vocab_size, checkpoint.folder().string());
    if (!config.student.leader_map.empty() || config.student.plan.method == settings::PlanMethod::uniform)
      plan_leader_map(
          config, checkpoint.config(), checkpoint.leader_map(), {}, [](int64_t, int64_t) {}, Device{});
  };
  if (distills(config)) attempt([&] { check_model(config.teacher.model_name_or_path, "teacher.model_name_or_path"); });
  if (!config.student.model_name_or_path.empty())
    attempt([&] { check_model(config.student.model_name_or_path, "student.model_name_or_path"); });
  if (config.mode == Mode::pretrain && tokenizer) attempt([&] { pretraining_config(config.model, *tokenizer); });
  return problems;
}

}  // namespace echo
