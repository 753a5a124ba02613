#include "training/run_setup.h"

#include <fmt/format.h>
#include <omp.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "communication/launch.h"
#include "config/check.h"
#include "kernels/matmul/matmul.h"
#include "nn/model_io.h"
#include "tensor/allocator.h"
#include "tensor/device_choice.h"
#include "training/memory_plan.h"
#include "training/plan_setup.h"
#include "training/precision.h"

namespace echo {
namespace {

namespace fs = std::filesystem;

void check_vocabulary(const Tokenizer& tokenizer, const ResolvedInputs& inputs, const LlamaConfig& config,
                      const std::string& model) {
  if (tokenizer.vocabulary_size() != config.vocab_size)
    fail(ExitCode::bad_data, inputs.tokenizer.string(), ": ", tokenizer.vocabulary_size(), " pieces, but ", model,
         " has vocab_size ", config.vocab_size, "; use the tokenizer that the model was trained with");
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

// Block ends are compared layer by layer and head by head, so the shapes must be equal.
void check_same_shape(const LlamaConfig& student, const LlamaConfig& teacher) {
  if (student.num_hidden_layers != teacher.num_hidden_layers || student.hidden_size != teacher.hidden_size ||
      student.vocab_size != teacher.vocab_size)
    fail(ExitCode::config, "student.model_name_or_path: ", student.num_hidden_layers, " layers of width ", student.hidden_size,
         ", vocabulary ", student.vocab_size, "; the teacher has ", teacher.num_hidden_layers, " of ", teacher.hidden_size,
         ", vocabulary ", teacher.vocab_size, "; distillation compares both layer by layer, so the shapes must be equal");
}

DataSettings data_settings_of(const TrainConfig& config, const DataPaths& paths, const Communicator& communicator) {
  return {.paths = paths,
          .set_names = config.data.set_names,
          .set_weights = config.data.set_weights,
          .sequence_length = config.data.sequence_length,
          .bos_per_document = config.data.bos_per_document,
          .reset_attention = config.data.reset_attention,
          .max_bad_fraction = config.data.max_bad_fraction,
          .seed = uint64_t(config.seed),
          .max_skipped_shards = config.data.max_skipped_shards,
          .shuffle_tokens = config.data.shuffle ? config.data.shuffle_tokens : 0,
          .rank = communicator.rank(),
          .world = communicator.world()};
}

// The device of the run, and the reason. Throws Error (device) when the requested GPU is not available.
ChosenDevice device_of(const TrainConfig& config, LocalRank local) {
  if (config.device == "auto" && compute_dtype_of(config) == DType::f64) return {Device{}, "cpu: float64 is computed there"};
  return choose_device(config.device, local);
}

// The memory for tensors of one rank, -1 if unknown. The ranks of a machine divide its main memory.
int64_t memory_for_this_rank(Device device, Communicator& communicator) {
  const int64_t available = available_memory(device), ranks = share_of_machine(communicator).ranks;
  return device.is_cpu() && available >= 0 ? available / ranks : available;
}

// The first rank plans and makes remarks, because a plan may need an analysis of minutes. The others get its map.
LeaderMap planned_by_first(const TrainConfig& config, const ResolvedInputs& inputs, const TrainingRun& run,
                           const SetupOptions& options, const std::function<void(const std::string&)>& remark) {
  LeaderMap map = run.description.leader_map;
  if (run.communicator->is_first()) {
    const auto progress = options.analysis_progress ? options.analysis_progress : [](int64_t, int64_t) {};
    const PlannedMap planned = plan_leader_map(config, inputs, run.description.config, map, progress, run.device);
    for (const std::string& line : planned.remarks) remark(line);
    map = planned.leader_map;
  }
  return LeaderMap::from_json(nlohmann::json::parse(text_of_first(*run.communicator, map.to_json().dump())));
}

}  // namespace

TrainingRun prepare_run(const TrainConfig& config, const ResolvedInputs& inputs, const SetupOptions& options) {
  set_memory_remedy(
      "a smaller per_device_train_batch_size, a shorter data.sequence_length or gradient_checkpointing=true needs less");
  TrainingRun run;
  run.config = config;
  run.inputs = inputs;
  run.compute_dtype = compute_dtype_of(config);
  run.communicator = options.communicator;
  run.data = data_settings_of(config, inputs.data.paths, *run.communicator);
  run.tokenizer.emplace(inputs.tokenizer);

  const ChosenDevice chosen = device_of(config, options.local_rank);
  run.device = chosen.device;
  const auto remark = [&](const std::string& line) {
    run.remarks.push_back(line);
    if (options.remark) options.remark(line);
  };
  remark("device: " + chosen.reason);
  kernels::allow_tf32(config.tf32);
  const WeightOptions weights{accumulator_dtype(run.compute_dtype), /*requires_gradient=*/true, run.device};
  std::optional<CheckpointReader> start, teacher;
  if (const auto& folder = options.checkpoint ? options.checkpoint : inputs.start) start.emplace(*folder);
  if (start) {
    run.description = start->description();
  } else {
    run.description.config = pretraining_config(config.model, *run.tokenizer);
    run.description.leader_map = LeaderMap::own(run.description.config.num_hidden_layers);
  }
  if (!options.checkpoint) run.description.leader_map = planned_by_first(config, inputs, run, options, remark);
  run.description.config.dtype = weights.dtype;
  check_vocabulary(*run.tokenizer, inputs, run.description.config, inputs.start ? inputs.start->string() : "the model");
  PlannedModels models{run.description.config, run.description.leader_map};
  models.world = run.communicator->world();
  WeightOptions teacher_weights{.requires_gradient = false, .device = run.device};
  if (inputs.teacher) {
    teacher.emplace(*inputs.teacher);
    check_vocabulary(*run.tokenizer, inputs, teacher->config(), inputs.teacher->string());
    check_same_shape(run.description.config, teacher->config());
    if (!run.description.teacher) run.description.teacher = identify_model(*inputs.teacher, config.teacher.model_name_or_path);
    teacher_weights.dtype = teacher_dtype_of(config, teacher->config().dtype);
    models.teacher_bytes = parameter_count(teacher->config(), teacher->leader_map()) * size_of(teacher_weights.dtype);
    models.teacher_layer_bytes =
        layer_matrix_elements(teacher->config(), teacher->leader_map()) * size_of(teacher_weights.dtype);
    models.teacher_matches_compute = teacher_weights.dtype == run.compute_dtype;
  }
  const bool on_gpu = !run.device.is_cpu();
  run.saves_in_background = saves_in_background(config, models, on_gpu, memory_for_this_rank(Device{}, *run.communicator));
  TrainConfig planned = config;
  planned.async_save = run.saves_in_background ? settings::Choice::yes : settings::Choice::no;
  // Printed before the first weight is loaded, because a run that does not fit may fail there.
  remark(describe_memory(planned, models, on_gpu, memory_for_this_rank(run.device, *run.communicator)));
  if (on_gpu && run.saves_in_background)
    remark(fmt::format("copy for saving in main memory: {:.0f} MiB", double(save_copy_bytes(config, models)) / (1 << 20)));
  remark(fmt::format("data in main memory: {:.0f} MiB (sequences read ahead, open files)",
                     double(loader_bytes(run.data)) / (1 << 20)));

  if (options.checkpoint) {
    run.student = load_model(*start, weights);
  } else if (start) {
    run.student = load_student(*start, run.description.leader_map, weights);
  } else {
    run.student = make_model(run.description.config, run.description.leader_map, weights);
    initialize(*run.student, run.description.config.initializer_range, uint64_t(config.seed));
  }
  if (teacher) run.teacher = load_model(*teacher, teacher_weights);
  return run;
}

std::string describe_models(const TrainingRun& run) {
  const LlamaConfig& config = run.description.config;
  const LeaderMap& map = run.description.leader_map;
  std::string text = concat("student: ", run.student->parameter_count(), " parameters, ", map.follower_count(), " of ",
                            config.num_hidden_layers, " layers follow (", map.describe(), ")");
  if (run.teacher)
    text += concat("\nteacher: ", run.teacher->parameter_count(), " parameters, ", run.config.teacher.model_name_or_path);
  return text;
}

int64_t choose_threads(const TrainConfig& config, Communicator& communicator) {
  const int64_t share = share_of_machine(communicator).threads;
  if (config.threads > 0)
    omp_set_num_threads(int(config.threads));
  else if (communicator.world() > 1 && std::getenv("OMP_NUM_THREADS") == nullptr)
    omp_set_num_threads(int(share));
  return omp_get_max_threads();
}

std::vector<std::string> check_inputs(const TrainConfig& config, const InputSearch& search) {
  std::vector<std::string> problems;
  for (const Error& problem : search.problems) problems.push_back(problem.what());
  const auto attempt = [&](const auto& check) {
    try {
      check();
    } catch (const Error& error) {
      problems.push_back(error.what());
    }
  };
  const ResolvedInputs& inputs = search.found;
  std::optional<Tokenizer> tokenizer;
  if (!inputs.tokenizer.empty()) attempt([&] { tokenizer.emplace(inputs.tokenizer); });
  const auto check_model = [&](const fs::path& folder) {
    const CheckpointReader checkpoint(folder);
    checkpoint.check();
    if (tokenizer) check_vocabulary(*tokenizer, inputs, checkpoint.config(), folder.string());
    if (!config.student.leader_map.empty() || config.student.plan.method == settings::PlanMethod::uniform)
      plan_leader_map(
          config, inputs, checkpoint.config(), checkpoint.leader_map(), [](int64_t, int64_t) {}, Device{});
  };
  if (inputs.teacher) attempt([&] { check_model(*inputs.teacher); });
  if (inputs.start && inputs.start != inputs.teacher) attempt([&] { check_model(*inputs.start); });
  if (config.mode == settings::Mode::pretrain && tokenizer) attempt([&] { pretraining_config(config.model, *tokenizer); });
  return problems;
}

std::vector<std::string> check_run(const fs::path& config, const std::vector<std::string>& overrides) {
  const ConfigReading reading = read_config(config, overrides);
  std::vector<std::string> problems = check_config(reading);
  if (!problems.empty()) return problems;
  return check_inputs(reading.config, search_inputs(reading.config, {stored_manifest(reading.config), {}}));
}

}  // namespace echo
