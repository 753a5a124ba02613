#include "training/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "communication/host_communicator.h"
#include "kernels/losses/head_chunks.h"
#include "kernels/matmul/matmul.h"
#include "nn/model_description.h"
#include "training/distillation.h"
#include "training/precision.h"

namespace echo {
namespace {

// Bytes of one micro-batch, according to what the operations of autograd/ save. Elements are counted per token.
class Activations {
 public:
  Activations(const TrainConfig& config, const PlannedModels& models)
      : model_(models.student),
        map_(models.leader_map),
        tokens_(config.per_device_train_batch_size * config.data.sequence_length),
        item_(size_of(compute_dtype_of(config))),
        wide_(size_of(accumulator_dtype(compute_dtype_of(config)))) {}

  int64_t states(int64_t count) const { return count * tokens_ * model_.hidden_size * item_; }

  // What a layer keeps for its backward pass: attention, two sums with their norms, and the MLP.
  int64_t layer(int64_t index) const {
    const int64_t query = model_.num_attention_heads * model_.head_dim,
                  key_value = model_.num_key_value_heads * model_.head_dim;
    const bool follows = map_.follows(index);
    // A leader keeps the fused projection, rotated in place, and o. A follower keeps v and o.
    const int64_t attention = follows ? key_value + query : (query + 2 * key_value) + query;
    const int64_t elements = attention + 4 * model_.hidden_size + 3 * model_.intermediate_size;
    const int64_t statistics = (follows ? 0 : model_.num_attention_heads) + 2;
    return tokens_ * (elements * item_ + statistics * wide_);
  }
  int64_t layers(int64_t first, int64_t last) const {
    int64_t total = 0;
    for (int64_t i = first; i <= last; ++i) total += layer(i);
    return total;
  }
  // In addition to what the last layer kept: the gradients of its MLP while its own input still exists.
  int64_t backward_extra() const { return tokens_ * item_ * (2 * model_.intermediate_size + 3 * model_.hidden_size); }
  // A forward pass that records nothing holds one layer at a time.
  int64_t passing() const { return tokens_ * item_ * (4 * model_.hidden_size + 3 * model_.intermediate_size); }

 private:
  const LlamaConfig& model_;
  const LeaderMap& map_;
  int64_t tokens_, item_, wide_;
};

int64_t head_scratch(const TrainConfig& config, const PlannedModels& models, bool with_teacher, bool on_gpu) {
  const DType dtype = compute_dtype_of(config);
  const int64_t wide = size_of(accumulator_dtype(dtype));
  const int64_t row =
      models.student.vocab_size * (wide * (with_teacher ? 2 : 1) + (wide == size_of(dtype) ? 0 : size_of(dtype)));
  const int64_t rows = config.per_device_train_batch_size * config.data.sequence_length;
  return std::min(rows * row, std::max(row, on_gpu ? kernels::kGpuHeadScratch : kernels::kHeadScratch));
}

// Bytes of one round of an exchange: a bucket, or a part of it.
int64_t largest_exchange(const TrainConfig& config, int64_t largest_parameter) {
  const auto bucket = int64_t(config.gradient_bucket_mib * (1 << 20));
  return std::min(std::max(bucket, largest_parameter), HostCommunicator::kElementsOfRound * size_of(DType::f32));
}

std::string gibibytes(int64_t bytes) {
  if (bytes < (int64_t{1} << 30)) return fmt::format("{:.1f} MiB", double(bytes) / (1 << 20));
  return fmt::format("{:.2f} GiB", double(bytes) / (1 << 30));
}

// Changed settings, and the peak memory with them.
struct Remedy {
  std::string text;
  TrainConfig config;
  int64_t peak;
};

// Searches for remedies: the first three that fit, with single settings before combinations, and the one that needs the least
// memory.
class Remedies {
 public:
  Remedies(const TrainConfig& config, const PlannedModels& models, bool on_gpu, int64_t available)
      : models_(models), on_gpu_(on_gpu), available_(available) {
    const Remedy unchanged{"", config, plan_memory(config, models, on_gpu).peak};
    least_ = {"as it is", config, unchanged.peak};
    if (config.async_save == settings::Choice::yes) {
      TrainConfig changed = config;
      changed.async_save = settings::Choice::no;
      attempt(unchanged, "async_save=false", changed);
    }
    if (models.world > 1 && !config.shard_optimizer) {
      TrainConfig changed = config;
      changed.shard_optimizer = true;
      attempt(unchanged, "shard_optimizer=true", changed);
    }
    if (models.world > 1 && models.teacher_bytes > 0 && !config.shard_teacher) {
      TrainConfig changed = config;
      changed.shard_teacher = true;
      attempt(unchanged, "shard_teacher=true", changed);
    }
    const Remedy recomputing = recompute(unchanged);
    smaller_batch(unchanged);
    shorter(unchanged);
    if (config.compute_dtype == settings::ComputeType::float32) {
      TrainConfig changed = config;
      changed.compute_dtype = settings::ComputeType::bfloat16;
      attempt(unchanged, "compute_dtype=bfloat16", changed);
    }
    shorter(smaller_batch(recomputing));
    shorter(recomputing);
  }
  // At most three. If nothing fits, the one that needs the least memory.
  std::vector<Remedy> found() const { return found_.empty() ? std::vector<Remedy>{least_} : found_; }

 private:
  Remedy attempt(const Remedy& from, const std::string& text, const TrainConfig& changed) {
    const Remedy remedy{from.text.empty() ? text : from.text + " " + text, changed,
                        plan_memory(changed, models_, on_gpu_).peak};
    if (remedy.peak <= available_ && found_.size() < 3 && !holds(remedy.text)) found_.push_back(remedy);
    if (remedy.peak < least_.peak) least_ = remedy;
    return remedy;
  }
  bool holds(const std::string& text) const {
    return std::any_of(found_.begin(), found_.end(), [&](const Remedy& remedy) { return remedy.text == text; });
  }
  Remedy recompute(const Remedy& from) {
    if (from.config.gradient_checkpointing) return from;
    TrainConfig changed = from.config;
    changed.gradient_checkpointing = true;
    return attempt(from, "gradient_checkpointing=true", changed);
  }
  // Each function lowers a setting until the run fits, or as far as possible. Returns the last attempt.
  Remedy smaller_batch(const Remedy& from) {
    Remedy last = from;
    const int64_t batch = from.config.per_device_train_batch_size;
    for (int64_t rows = batch - 1; last.peak > available_ && rows >= 1; --rows) {
      if (batch % rows != 0) continue;
      TrainConfig changed = from.config;
      changed.per_device_train_batch_size = rows;
      changed.gradient_accumulation_steps *= batch / rows;
      last = attempt(from,
                     fmt::format("per_device_train_batch_size={} gradient_accumulation_steps={}",
                                 changed.per_device_train_batch_size, changed.gradient_accumulation_steps),
                     changed);
    }
    return last;
  }
  Remedy shorter(const Remedy& from) {
    Remedy last = from;
    for (TrainConfig changed = from.config; last.peak > available_ && changed.data.sequence_length >= 128;) {
      changed.data.sequence_length /= 2;
      last = attempt(from, fmt::format("data.sequence_length={}", changed.data.sequence_length), changed);
    }
    return last;
  }

  const PlannedModels& models_;
  bool on_gpu_;
  int64_t available_;
  std::vector<Remedy> found_;
  Remedy least_;
};

}  // namespace

int64_t layer_matrix_elements(const LlamaConfig& config, const LeaderMap& leader_map) {
  const int64_t vectors = (2 * config.num_hidden_layers + 1) * config.hidden_size;
  return parameter_count(config, leader_map) - vectors -
         config.vocab_size * config.hidden_size * (config.tie_word_embeddings ? 1 : 2);
}

MemoryPlan plan_memory(const TrainConfig& config, const PlannedModels& models, bool on_gpu) {
  const DType dtype = compute_dtype_of(config);
  const int64_t wide = size_of(accumulator_dtype(dtype)), item = size_of(dtype);
  const LlamaConfig& model = models.student;
  const int64_t parameters = parameter_count(model, models.leader_map);
  const int64_t vectors = (2 * model.num_hidden_layers + 1) * model.hidden_size;
  const int64_t embedding = model.vocab_size * model.hidden_size;
  const bool with_teacher = models.teacher_bytes > 0;
  const Activations activations(config, models);
  const int64_t ends = with_teacher ? int64_t(models.leader_map.block_ends().size()) : 0;

  MemoryPlan plan;
  const auto add = [&](const char* name, int64_t bytes) {
    if (bytes > 0) plan.parts.push_back({name, bytes});
    plan.peak += bytes;
  };
  add("student", parameters * wide);
  if (item != wide) add("its copy for products", (parameters - vectors) * item);
  add("optimizer moments", 2 * parameters * wide / (config.shard_optimizer ? models.world : 1));
  if (!on_gpu && config.async_save == settings::Choice::yes) add("copy for saving", save_copy_bytes(config, models));
  const bool shard_teacher = config.shard_teacher && models.world > 1;
  const int64_t divided = shard_teacher ? models.teacher_layer_bytes : 0;
  if (with_teacher) add("teacher", models.teacher_bytes - divided + divided / models.world);
  if (on_gpu) add("matmul workspace", kernels::kGpuMatmulWorkspace);

  // The peak is at one of two moments. At the head: everything kept for the backward pass, the teacher's states and the logits.
  // In the backward pass of the last layers: what is kept, and the current gradients, without the teacher. With several
  // micro-batches the gradients of all parameters exist at both moments. With one, they grow while activations are freed, and
  // the optimizer's step is a third candidate.
  const auto spans = models.leader_map.closed_spans();
  int64_t kept = activations.states(2), recomputed = 0;  // the embedding's output and its norm
  for (const auto& [first, last] : spans) {
    const int64_t span = activations.layers(first, last);
    kept += config.gradient_checkpointing ? activations.states(2) : span;
    recomputed = std::max(recomputed, span);
  }
  if (config.gradient_checkpointing && with_teacher) {
    // Block ends inside a span are kept in addition to its end.
    kept += activations.states(std::max<int64_t>(0, ends - int64_t(spans.size())));
  }
  // Gradients of states from the losses: at block ends in the memory of the teacher's states, and of the head's input.
  const int64_t roots = activations.states(ends + 1);
  const int64_t logits = head_scratch(config, models, with_teacher, on_gpu);
  const int64_t cast_teacher = with_teacher && !models.teacher_matches_compute ? embedding * item : 0;
  const int64_t at_head = kept + roots + activations.states(with_teacher ? 1 : 0) + logits + cast_teacher;
  const int64_t in_backward = kept + roots + activations.backward_extra() + (config.gradient_checkpointing ? recomputed : 0);
  const int64_t two_layers = 2 * divided / model.num_hidden_layers;  // the one that computes and the next one
  const int64_t teacher_pass =
      with_teacher ? activations.states(ends + 1) + activations.passing() + cast_teacher + two_layers : 0;

  // Several ranks keep the gradients in buckets, always. Sums in main memory need the bucket of all ranks beside this rank's.
  const bool ranks = models.world > 1, several = ranks || config.gradient_accumulation_steps > 1;
  const int64_t exchanged = ranks && !on_gpu ? largest_exchange(config, embedding * wide) : 0;
  const int64_t wire =
      ranks && config.gradient_wire == settings::GradientWire::bfloat16 ? parameters * size_of(DType::bf16) : 0;
  const int64_t all_gradients = parameters * wide, head_gradient = embedding * wide;
  const int64_t held = several ? all_gradients : head_gradient;
  const int64_t passes =
      std::max({at_head + held, in_backward + held + exchanged, teacher_pass + (several ? all_gradients : 0)}) - exchanged;
  const int64_t at_end = all_gradients + wire;  // when the backward pass is over
  add("communication", exchanged + (passes < at_end ? wire : 0));
  if (passes >= at_end) {
    add("gradients", held);
    add("activations", std::max(kept + roots, passes - held - logits));
    add("head and losses", passes - held - std::max(kept + roots, passes - held - logits));
  } else {
    add("gradients", all_gradients);
  }
  return plan;
}

int64_t save_copy_bytes(const TrainConfig& config, const PlannedModels& models) {
  return 3 * parameter_count(models.student, models.leader_map) * size_of(accumulator_dtype(compute_dtype_of(config)));
}

bool saves_in_background(const TrainConfig& config, const PlannedModels& models, bool on_gpu, int64_t main_memory) {
  if (config.async_save != settings::Choice::automatic) return config.async_save == settings::Choice::yes;
  const int64_t others = on_gpu ? 0 : plan_memory(config, models, on_gpu).peak;
  return (others + save_copy_bytes(config, models)) / 8 * 9 <= main_memory;  // an eighth for what the plan does not include
}

std::string describe_memory(const TrainConfig& config, const PlannedModels& models, bool on_gpu, int64_t available) {
  const MemoryPlan plan = plan_memory(config, models, on_gpu);
  std::string text = "memory: " + gibibytes(plan.peak) + " (";
  for (size_t i = 0; i < plan.parts.size(); ++i)
    text += fmt::format("{}{} {}", i > 0 ? ", " : "", plan.parts[i].name, gibibytes(plan.parts[i].bytes));
  text += ")";
  if (available < 0) return text;
  text += " of " + gibibytes(available);
  if (plan.peak <= available) return text;
  text += "\nwarning: this does not fit; settings that need less:";
  for (const Remedy& remedy : Remedies(config, models, on_gpu, available).found())
    text += fmt::format("\n  {} ({}{})", remedy.text, gibibytes(remedy.peak),
                        remedy.peak <= available ? "" : ", too much, but nothing needs less");
  return text;
}

}  // namespace echo
