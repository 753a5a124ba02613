#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/path_list.h"

namespace echo {

// The settings of ./train. Each struct lists its fields with their defaults. Below them, visit() is its table: key, field and
// the field's only comment (unit, effect). The table is the only list of keys. Reading YAML, overrides, printing, JSON and the
// suggestions for misspelt keys all use it (config/reading.h). Names are those of the Hugging Face Trainer when the meaning is
// the same. config/check.h checks more than the type of a value.
namespace settings {

// The YAML names of an enumeration's values, in the order of its enumerators.
template <class E>
inline constexpr int kNames = 0;

enum class Mode { distill, pretrain, continue_training };
template <>
inline constexpr std::array<std::string_view, 3> kNames<Mode> = {"distill", "pretrain", "continue"};

enum class StorageType { automatic, float32, bfloat16, float64 };  // automatic: as the checkpoint stores it
template <>
inline constexpr std::array<std::string_view, 4> kNames<StorageType> = {"auto", "float32", "bfloat16", "float64"};

enum class ComputeType { float32, bfloat16, float64 };
template <>
inline constexpr std::array<std::string_view, 3> kNames<ComputeType> = {"float32", "bfloat16", "float64"};

enum class PlanMethod { none, list, paper_following, paper_lending, uniform, optimal };
template <>
inline constexpr std::array<std::string_view, 6> kNames<PlanMethod> = {"none",          "list",    "paper_following",
                                                                       "paper_lending", "uniform", "optimal"};

enum class SimilarityVariant { flat, per_head, per_row, no_first_column };
template <>
inline constexpr std::array<std::string_view, 4> kNames<SimilarityVariant> = {"flat", "per_head", "per_row", "no_first_column"};

enum class KlDirection { student_teacher, teacher_student, jensen_shannon };
template <>
inline constexpr std::array<std::string_view, 3> kNames<KlDirection> = {"student_teacher", "teacher_student", "jensen_shannon"};

enum class IntermediateNormalization { none, teacher_power };
template <>
inline constexpr std::array<std::string_view, 2> kNames<IntermediateNormalization> = {"none", "teacher_power"};

enum class Scheduler { cosine, linear, constant };
template <>
inline constexpr std::array<std::string_view, 3> kNames<Scheduler> = {"cosine", "linear", "constant"};

enum class GradientWire { float32, bfloat16 };
template <>
inline constexpr std::array<std::string_view, 2> kNames<GradientWire> = {"float32", "bfloat16"};

enum class Choice { automatic, yes, no };
template <>
inline constexpr std::array<std::string_view, 3> kNames<Choice> = {"auto", "true", "false"};

template <class E>
constexpr std::string_view name_of(E value) {
  return kNames<E>[size_t(value)];
}

struct Teacher {
  std::string model_name_or_path;
  StorageType dtype = StorageType::automatic;

  template <class Self, class Visitor>
  static void visit(Self& self, Visitor& field) {
    field("model_name_or_path", self.model_name_or_path,
          "Hugging Face folder of the teacher, required to distill. Also looked for under models/, in the shared folder and on "
          "the hub");
    field("dtype", self.dtype, "auto | float32 | bfloat16 | float64: type of its weights in memory (auto: as stored)");
  }
  bool operator==(const Teacher&) const = default;
};

struct Plan {
  PlanMethod method = PlanMethod::none;
  std::vector<int64_t> layers;
  int64_t followers = 0;
  int64_t first_shared = 1;
  int64_t block_size = 2;
  int64_t blocks = 1;
  int64_t budget_parameters = 0;
  int64_t budget_flops = 0;
  int64_t budget_cache_bytes = 0;
  std::string analysis;
  int64_t analysis_samples = 128;
  int64_t analysis_sequence_length = 512;
  SimilarityVariant variant = SimilarityVariant::flat;

  template <class Self, class Visitor>
  static void visit(Self& self, Visitor& field) {
    field("method", self.method,
          "none | list | paper_following | paper_lending | uniform | optimal: how the leader map is made. list and "
          "paper_following: each listed layer follows the nearest earlier layer that is not listed; paper_lending: each listed "
          "layer leads the next one; uniform: equal blocks; optimal: best contiguous blocks for a budget");
    field("layers", self.layers,
          "layer numbers from 0, for list, paper_following and paper_lending. Empty: the paper_* methods take the first "
          "layers of the similarity ranking");
    field("followers", self.followers, "number of followers, for optimal and for paper_* without layers; 0: not given");
    field("first_shared", self.first_shared, "uniform: number of layers before the first block, which share nothing");
    field("block_size", self.block_size, "uniform: layers per block, including its leader");
    field("blocks", self.blocks, "uniform: number of blocks");
    field("budget_parameters", self.budget_parameters, "optimal: least number of parameters to save; 0: not given");
    field("budget_flops", self.budget_flops,
          "optimal: least number of floating-point operations to save per token of a forward pass; 0: not given");
    field("budget_cache_bytes", self.budget_cache_bytes,
          "optimal: least number of bytes to save in the key cache of one sequence; 0: not given");
    field("analysis", self.analysis,
          "analysis.json or another stored similarity matrix. Empty: the start weights are analysed on data.path first");
    field("analysis_samples", self.analysis_samples, "number of documents in that analysis");
    field("analysis_sequence_length", self.analysis_sequence_length,
          "tokens per document in that analysis; shorter documents are skipped");
    field("variant", self.variant, "flat | per_head | per_row | no_first_column: which similarity the plan uses");
  }
  bool operator==(const Plan&) const = default;
};

struct Student {
  std::string model_name_or_path;
  std::vector<int64_t> leader_map;
  Plan plan;
  bool detach_shared = false;

  template <class Self, class Visitor>
  static void visit(Self& self, Visitor& field) {
    field("model_name_or_path", self.model_name_or_path,
          "folder of the start weights, required to continue. Empty: distill starts from the teacher's weights");
    field("leader_map", self.leader_map,
          "for each layer, the layer whose attention it uses (its own number if it shares none), e.g. [0, 1, 1, 3]. Empty: "
          "made by plan, or the map stored with the start weights");
    field("plan", self.plan, "How the leader map is made when leader_map is empty");
    field("detach_shared", self.detach_shared,
          "true: followers send no gradient into the shared attention matrix; false: they do, as in the paper");
  }
  bool operator==(const Student&) const = default;
};

struct Model {
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t vocab_size = 0;
  int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-5;
  double rope_theta = 10000.0;
  bool tie_word_embeddings = false;
  double initializer_range = 0.02;

  template <class Self, class Visitor>
  static void visit(Self& self, Visitor& field) {
    field("hidden_size", self.hidden_size, "D, width of the residual stream; required to pretrain");
    field("intermediate_size", self.intermediate_size, "width inside the MLP; required to pretrain");
    field("num_hidden_layers", self.num_hidden_layers, "L, number of layers; required to pretrain");
    field("num_attention_heads", self.num_attention_heads, "H, number of query heads; required to pretrain");
    field("num_key_value_heads", self.num_key_value_heads, "number of key and value heads, a divisor of H; 0: H");
    field("head_dim", self.head_dim, "width of one head, even; 0: hidden_size / num_attention_heads");
    field("vocab_size", self.vocab_size, "tokens in the vocabulary; 0: as many as the tokenizer has");
    field("max_position_embeddings", self.max_position_embeddings, "longest sequence, in tokens");
    field("rms_norm_eps", self.rms_norm_eps, "added to the mean square in RMSNorm");
    field("rope_theta", self.rope_theta, "base of the rotary position embedding");
    field("tie_word_embeddings", self.tie_word_embeddings, "true: the output head uses the embedding matrix");
    field("initializer_range", self.initializer_range, "standard deviation of the random start weights");
  }
  bool operator==(const Model&) const = default;
};

struct Data {
  PathList path;
  PathList validation_path;
  double validation_fraction = 0.01;
  std::vector<std::string> set_names;
  int64_t sequence_length = 2048;
  int64_t epoch_tokens = 0;
  bool bos_per_document = false;
  bool reset_attention = false;
  double max_bad_fraction = 0.01;
  std::map<std::string, double> set_weights;
  bool shuffle = true;
  int64_t shuffle_tokens = 1048576;
  double cache_gib = 20.0;
  std::string cache_folder;
  int64_t max_skipped_shards = 5;

  template <class Self, class Visitor>
  static void visit(Self& self, Visitor& field) {
    field("path", self.path,
          "training text: a file, a folder or a glob of .jsonl, .jsonl.zst, .txt, here or on the hub "
          "(hf://datasets/ORGANISATION/NAME[@REVISION][/PATH]), an address http(s)://HOST/FILE, or a list of these. Of a "
          "folder with train/ in it, only that part is used. Also looked for in the shared folder");
    field("validation_path", self.validation_path,
          "held-out text, of the same kinds. Empty: the folder validation/ in path if it exists, else documents taken "
          "out of path");
    field("validation_fraction", self.validation_fraction,
          "share of the documents of path to hold out when there is no other held-out text; 0: none");
    field("set_names", self.set_names,
          "keep only documents with one of these values of meta.redpajama_set_name, e.g. [C4] or [RedPajamaC4]; empty: all");
    field("sequence_length", self.sequence_length, "T, tokens per training sequence");
    field("epoch_tokens", self.epoch_tokens,
          "tokens that count as one epoch, e.g. 3.7e9; 0: not given, and max_steps says how long to train");
    field("bos_per_document", self.bos_per_document, "true: every document begins with BOS");
    field("reset_attention", self.reset_attention, "true: tokens do not attend across document ends");
    field("max_bad_fraction", self.max_bad_fraction,
          "largest share of unreadable documents; with more the run stops (exit code 65)");
    field("set_weights", self.set_weights,
          "how often documents of a set are taken, relative to the largest weight, e.g. {C4: 0.5, Wikipedia: 1}: then an "
          "epoch takes half of C4 and all others. Sets without a weight have 1");
    field("shuffle", self.shuffle,
          "true: several files are read at the same time, and documents and sequences are permuted within blocks. false: "
          "documents come in the order of their file");
    field("shuffle_tokens", self.shuffle_tokens,
          "tokens of such a block. A larger one mixes better; a resumed run reads up to one block again");
    field("cache_gib", self.cache_gib,
          "GiB of disk for files of the hub that stream in while the run trains. Used ones are removed to make room");
    field("cache_folder", self.cache_folder,
          "folder of these files, which several runs may share; empty: echoatt/shards in HF_HOME (~/.cache/huggingface)");
    field("max_skipped_shards", self.max_skipped_shards,
          "files of the hub that a run may go on without because they cannot be fetched; with more it stops (exit code 69 or "
          "65)");
  }
  bool operator==(const Data&) const = default;
};

struct Distillation {
  double hidden_weight = 0.25;
  double kl_weight = 0.25;
  double hard_label_weight = 0.5;
  double true_label_weight = 0.0;
  KlDirection kl_direction = KlDirection::student_teacher;
  double temperature = 1.0;
  IntermediateNormalization intermediate_normalization = IntermediateNormalization::none;

  template <class Self, class Visitor>
  static void visit(Self& self, Visitor& field) {
    field("hidden_weight", self.hidden_weight,
          "alpha: weight of the squared error of the hidden states at the ends of the blocks");
    field("kl_weight", self.kl_weight, "beta: weight of the divergence of the next-token distributions");
    field("hard_label_weight", self.hard_label_weight,
          "gamma: weight of the cross-entropy against the teacher's most likely token");
    field("true_label_weight", self.true_label_weight,
          "weight of the cross-entropy against the text; the paper's stage 1 has none");
    field("kl_direction", self.kl_direction,
          "student_teacher (KL(student || teacher), the paper's) | teacher_student (KL(teacher || student)) | "
          "jensen_shannon");
    field("temperature", self.temperature,
          "divides the logits of both models in the divergence, which is multiplied by its square");
    field("intermediate_normalization", self.intermediate_normalization,
          "none | teacher_power: divide the hidden error by the mean square of the teacher's state");
  }
  bool operator==(const Distillation&) const = default;
};

struct Stage {
  bool enabled = true;
  double num_train_epochs = 1.0;
  double learning_rate = 0.0;

  template <class Self, class Visitor>
  static void visit(Self& self, Visitor& field) {
    field("enabled", self.enabled, "false: skip this stage");
    field("num_train_epochs", self.num_train_epochs, "length, in epochs of data.epoch_tokens");
    field("learning_rate", self.learning_rate, "peak learning rate of this stage; 0: the top-level learning_rate");
  }
  bool operator==(const Stage&) const = default;
};

}  // namespace settings

struct TrainConfig {
  settings::Mode mode = settings::Mode::distill;
  std::string output_dir = "runs/train";
  int64_t seed = 42;
  std::string resume_from_checkpoint = "auto";
  settings::Teacher teacher;
  settings::Student student;
  settings::Model model;
  std::string tokenizer;
  settings::Data data;
  settings::Distillation distillation;
  settings::Stage stage1;
  settings::Stage stage2 = {true, 0.25, 0.0};
  double num_train_epochs = 1.0;
  int64_t max_steps = -1;
  int64_t per_device_train_batch_size = 8;
  int64_t per_device_eval_batch_size = 8;
  int64_t gradient_accumulation_steps = 1;
  double learning_rate = 1e-4;
  settings::Scheduler lr_scheduler_type = settings::Scheduler::cosine;
  double warmup_ratio = 0.005;
  int64_t warmup_steps = 0;
  double weight_decay = 0.0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;
  int64_t logging_steps = 10;
  int64_t eval_steps = 0;
  int64_t eval_rows = 64;
  int64_t save_steps = 500;
  int64_t save_total_limit = 2;
  settings::Choice async_save = settings::Choice::automatic;
  settings::ComputeType compute_dtype = settings::ComputeType::float32;
  bool gradient_checkpointing = false;
  std::string device = "auto";
  bool tf32 = false;
  int64_t threads = 0;
  double comm_timeout = 1800.0;
  double gradient_bucket_mib = 25.0;
  settings::GradientWire gradient_wire = settings::GradientWire::float32;
  bool shard_optimizer = false;
  bool shard_teacher = false;
  bool report = true;

  template <class Self, class Visitor>
  static void visit(Self& self, Visitor& field) {
    field("mode", self.mode,
          "distill: student from teacher, stage 1 and stage 2 | pretrain: from random weights (model) | continue: from "
          "student.model_name_or_path. pretrain and continue learn from the true labels only, in one stage");
    field("output_dir", self.output_dir, "folder of the run: log, checkpoints, report, all settings");
    field("seed", self.seed, "seed for random start weights and the order of the data; 0 or more");
    field("resume_from_checkpoint", self.resume_from_checkpoint,
          "auto: resume from the newest checkpoint in output_dir, if any | none: start from the beginning | path of a "
          "checkpoint folder");
    field("teacher", self.teacher, "The model to learn from; frozen");
    field("student", self.student, "The model to train: start weights, and which layers share attention");
    field("model", self.model, "Architecture for pretrain, with the names of a Hugging Face Llama config.json");
    field("tokenizer", self.tokenizer, "path of tokenizer.model; empty: in the teacher's or the student's folder");
    field("data", self.data, "Text to train on");
    field("distillation", self.distillation, "Stage 1: the terms of the loss and their weights");
    field("stage1", self.stage1, "Stage 1 of distill: learn from the teacher");
    field("stage2", self.stage2,
          "Stage 2 of distill: next-token cross-entropy on true labels, with a fresh optimizer and schedule");
    field("num_train_epochs", self.num_train_epochs, "pretrain and continue: length, in epochs of data.epoch_tokens");
    field("max_steps", self.max_steps, "largest number of optimizer steps in EACH stage; -1: no limit");
    field("per_device_train_batch_size", self.per_device_train_batch_size, "sequences per micro-batch; memory grows with it");
    field("per_device_eval_batch_size", self.per_device_eval_batch_size, "sequences per held-out batch");
    field("gradient_accumulation_steps", self.gradient_accumulation_steps,
          "micro-batches per optimizer step; sequences per step = this x per_device_train_batch_size x processes");
    field("learning_rate", self.learning_rate, "peak learning rate of the schedule");
    field("lr_scheduler_type", self.lr_scheduler_type,
          "cosine | linear | constant: course of the rate after the warm-up; cosine and linear end at 0");
    field("warmup_ratio", self.warmup_ratio, "share of a stage's steps in which the rate rises to its peak");
    field("warmup_steps", self.warmup_steps, "the same as a number of steps; 0: warmup_ratio applies");
    field("weight_decay", self.weight_decay, "weight decay of AdamW; applies to matrices, not to norm weights");
    field("adam_beta1", self.adam_beta1, "decay of the running mean of the gradient");
    field("adam_beta2", self.adam_beta2, "decay of the running mean of the squared gradient");
    field("adam_epsilon", self.adam_epsilon, "added to the denominator sqrt(v)");
    field("max_grad_norm", self.max_grad_norm, "gradients with a larger norm are scaled down to it; 0: never");
    field("logging_steps", self.logging_steps, "steps between lines of the log");
    field("eval_steps", self.eval_steps, "steps between held-out evaluations; 0: only before training and after each stage");
    field("eval_rows", self.eval_rows, "largest number of held-out sequences per evaluation");
    field("save_steps", self.save_steps, "steps between checkpoints; 0: only at the end of a stage");
    field("save_total_limit", self.save_total_limit, "number of newest checkpoints to keep; 0: all");
    field("async_save", self.async_save,
          "true: checkpoints are written while training goes on, from a copy of weights and moments in main memory | false: "
          "training waits | auto: true if there is memory for the copy. The files are the same");
    field("compute_dtype", self.compute_dtype,
          "float32 | bfloat16 | float64: type of the activations; parameters and optimizer stay float32 (float64: all)");
    field("gradient_checkpointing", self.gradient_checkpointing,
          "true: recompute activations in the backward pass; less memory, about a third more time");
    field("device", self.device, "auto: a GPU if there is one | cpu | cuda | cuda:N");
    field("tf32", self.tf32,
          "true: float32 products on a GPU round their operands to 10 bits of mantissa and are several times faster");
    field("threads", self.threads, "CPU threads of each process; 0: all cores, divided among the processes of the machine");
    field("comm_timeout", self.comm_timeout,
          "seconds that a process waits for the others before the job ends with exit code 69. It must be longer than an "
          "evaluation and a save, during which the others wait for the first process");
    field("gradient_bucket_mib", self.gradient_bucket_mib,
          "several processes: MiB of gradients that are summed over the processes at once, while the backward pass goes on");
    field("gradient_wire", self.gradient_wire,
          "float32 | bfloat16: type in which processes send gradients. bfloat16 sends half as much and rounds each one");
    field("shard_optimizer", self.shard_optimizer,
          "true: each process keeps the moments of AdamW for its part of the parameters only and updates that part (ZeRO-1). "
          "The result is the same");
    field("shard_teacher", self.shard_teacher,
          "true: each process keeps its part of the teacher's layers only. A layer is collected just before it computes. The "
          "result is the same");
    field("report", self.report, "true: write report.html at the end");
  }
  bool operator==(const TrainConfig&) const = default;
};

}  // namespace echo
