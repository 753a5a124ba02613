#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace echo {

// Trains a byte-pair tokenizer with byte fallback, like Llama's: ids 0 <unk>, 1 <s>, 2 </s>, 3 to 258 the bytes, then merges
// and characters. It does not normalise, splits numbers into digits and puts a space before the text. Writes `output` (a
// tokenizer.model) atomically, and no other file. The same texts in the same order give the same bytes.
//   next_text: stores the next text and returns true, or returns false at the end. The library holds all lines in memory.
//   vocabulary_size: pieces in all, at least 260
// Throws Error: config when the vocabulary size does not fit the texts (too small for their characters, too large for their
// words), bad_data when there is no text, io when writing fails.
void train_tokenizer(const std::function<bool(std::string&)>& next_text, int32_t vocabulary_size,
                     const std::filesystem::path& output);
void train_tokenizer(const std::vector<std::string>& texts, int32_t vocabulary_size, const std::filesystem::path& output);

}  // namespace echo
