#pragma once

#include <string>
#include <string_view>

namespace echo {

// Checks the bytes of a SentencePiece `tokenizer.model` (a protobuf ModelProto) before the library reads them, because the
// library aborts, or reads outside its tables, for some damaged models. It accepts unigram and BPE models as SentencePiece's
// trainer writes them:
//   every field well-formed and of the type the schema gives it; one trainer_spec, at most one normalizer_spec;
//   pieces: not empty, valid UTF-8 without zero bytes, no duplicates, finite score, known type; exactly one unknown piece;
//   byte pieces `<0x00>` to `<0xFF>` complete when byte_fallback is on, and absent when it is off;
//   user-defined pieces: at most 32 that are prefixes of one another (the library's table holds 64);
//   ids of unknown, begin, end and padding: -1, or the piece of that name and kind; normalisation rules: charsmap_check.h; no
//   denormalisation rules (streaming does not support them).
// Throws Error (bad_data) with `name` (the file) and the reason.
// Source of the schema: sentencepiece_model.proto of SentencePiece 0.1.97.
void check_tokenizer_model(std::string_view model, const std::string& name);

}  // namespace echo
