#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace echo {

inline constexpr uint64_t kUnigramModel = 1, kBytePairModel = 2;

// The part of a model's trainer_spec that the checks need. The string views point into the message.
struct TrainerSpec {
  uint64_t model_type = kUnigramModel;
  bool byte_fallback = false;
  int32_t unknown_id = 0, begin_id = 1, end_id = 2, padding_id = -1;
  std::string_view unknown_piece = "<unk>", begin_piece = "<s>", end_piece = "</s>", padding_piece = "<pad>";
};

// Reads a message TrainerSpec (sentencepiece_model.proto). Throws Error (bad_data) when a known field has another type than in
// the schema, when a field that may occur once occurs twice, or when the model is neither unigram nor BPE. The message begins
// with `where`.
TrainerSpec read_trainer_spec(std::string_view message, const std::string& where);

}  // namespace echo
