#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace echo {

// Trains a byte-pair tokenizer with byte fallback, as Llama's: ids 0 <unk>, 1 <s>, 2 </s>, 3 to 258 the bytes, then merges and
// characters; no normalisation; digits one by one; a space before the text. Writes `output` (a tokenizer.model), atomically,
// and no other file. The same texts in the same order give the same bytes.
//   next_text: gives the next text and true, or false at the end; texts are cut into lines, held in memory while training
//   vocabulary_size: pieces in all, at least 260
// Throws Error: config when the vocabulary size does not fit the texts (too small for their characters, too large for their
// words), bad_data when there is no text, io when writing fails.
void train_tokenizer(const std::function<bool(std::string&)>& next_text, int32_t vocabulary_size,
                     const std::filesystem::path& output);
void train_tokenizer(const std::vector<std::string>& texts, int32_t vocabulary_size, const std::filesystem::path& output);

}  // namespace echo
