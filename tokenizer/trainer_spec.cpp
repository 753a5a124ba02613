#include "tokenizer/trainer_spec.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "tokenizer/protobuf_reader.h"

namespace echo {
namespace {

void read_value(const ProtobufReader& field, bool& value) { value = field.boolean(); }
void read_value(const ProtobufReader& field, int32_t& value) { value = field.int32(); }
void read_value(const ProtobufReader& field, uint64_t& value) { value = field.varint(); }
void read_value(const ProtobufReader& field, float& value) { value = field.float32(); }
void read_value(const ProtobufReader& field, std::string_view& value) { value = field.bytes(); }

// A field whose type is checked but whose value is not used.
template <class Value>
void check(const ProtobufReader& field, TrainerSpec&) {
  Value value{};
  read_value(field, value);
}
template <auto Member>
void keep(const ProtobufReader& field, TrainerSpec& spec) {
  read_value(field, spec.*Member);
}

struct Field {
  uint32_t number;
  const char* name;
  void (*read)(const ProtobufReader&, TrainerSpec&);
  bool repeated = false;  // may occur more than once
};

// The fields of the schema. Others are ignored, as the library does.
constexpr Field kFields[] = {
    {1, "input", check<std::string_view>, true},
    {2, "model_prefix", check<std::string_view>},
    {3, "model_type", keep<&TrainerSpec::model_type>},
    {4, "vocab_size", check<int32_t>},
    {5, "accept_language", check<std::string_view>, true},
    {6, "self_test_sample_size", check<int32_t>},
    {7, "input_format", check<std::string_view>},
    {10, "character_coverage", check<float>},
    {11, "input_sentence_size", check<uint64_t>},
    {12, "mining_sentence_size", check<int32_t>},
    {13, "training_sentence_size", check<int32_t>},
    {14, "seed_sentencepiece_size", check<int32_t>},
    {15, "shrinking_factor", check<float>},
    {16, "num_threads", check<int32_t>},
    {17, "num_sub_iterations", check<int32_t>},
    {18, "max_sentence_length", check<int32_t>},
    {19, "shuffle_input_sentence", check<bool>},
    {20, "max_sentencepiece_length", check<int32_t>},
    {21, "split_by_unicode_script", check<bool>},
    {22, "split_by_whitespace", check<bool>},
    {23, "split_by_number", check<bool>},
    {24, "treat_whitespace_as_suffix", check<bool>},
    {25, "split_digits", check<bool>},
    {26, "allow_whitespace_only_pieces", check<bool>},
    {30, "control_symbols", check<std::string_view>, true},
    {31, "user_defined_symbols", check<std::string_view>, true},
    {32, "vocabulary_output_piece_score", check<bool>},
    {33, "hard_vocab_limit", check<bool>},
    {34, "use_all_vocab", check<bool>},
    {35, "byte_fallback", keep<&TrainerSpec::byte_fallback>},
    {36, "required_chars", check<std::string_view>},
    {40, "unk_id", keep<&TrainerSpec::unknown_id>},
    {41, "bos_id", keep<&TrainerSpec::begin_id>},
    {42, "eos_id", keep<&TrainerSpec::end_id>},
    {43, "pad_id", keep<&TrainerSpec::padding_id>},
    {44, "unk_surface", check<std::string_view>},
    {45, "unk_piece", keep<&TrainerSpec::unknown_piece>},
    {46, "bos_piece", keep<&TrainerSpec::begin_piece>},
    {47, "eos_piece", keep<&TrainerSpec::end_piece>},
    {48, "pad_piece", keep<&TrainerSpec::padding_piece>},
    {49, "train_extremely_large_corpus", check<bool>},
    {50, "enable_differential_privacy", check<bool>},
    {51, "differential_privacy_noise_level", check<float>},
    {52, "differential_privacy_clipping_threshold", check<uint64_t>},
    {53, "pretokenization_delimiter", check<std::string_view>},
};

}  // namespace

TrainerSpec read_trainer_spec(std::string_view message, const std::string& where) {
  TrainerSpec spec;
  std::set<uint32_t> seen;
  ProtobufReader reader(message, where);
  while (reader.next()) {
    const uint32_t number = reader.number();
    const Field* field = std::ranges::find(kFields, number, &Field::number);
    const bool known = field != std::end(kFields);
    if (!known || !field->repeated) require_first(seen, number, known ? concat(where, ": ", field->name) : where);
    if (known) field->read(reader, spec);
  }
  if (spec.model_type != kUnigramModel && spec.model_type != kBytePairModel)
    fail(ExitCode::bad_data, where, ": model type ", spec.model_type, " is not supported; supported are ", kUnigramModel,
         " (unigram) and ", kBytePairModel, " (BPE)");
  return spec;
}

}  // namespace echo
