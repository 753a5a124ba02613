#pragma once

#include <xxhash.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace echo {

// The ids of words that were seen before. A text repeats most of its words, and looking one up takes far less time than the
// library needs (docs/benchmarks.md). Any number of threads may call encode at once. Each works with a table of its own, which
// holds up to kWords words and begins anew when it is full. So it takes about 20 MB at most.
class WordCache {
 public:
  static constexpr size_t kWords = size_t{1} << 17, kLongestWord = 32;  // bytes; longer ones are not kept

  // Appends the ids of `word` to `ids`; encode_word gives those of a word that is not known. Throws what encode_word throws.
  using EncodeWord = std::function<void(std::string_view word, std::vector<int32_t>& ids)>;

  // Appends the ids of a text, word after word. next_word takes the next word off the front of the text.
  void encode(std::string_view text, const std::function<std::string_view(std::string_view& text)>& next_word,
              const EncodeWord& encode_word, std::vector<int32_t>& ids);

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view word) const { return XXH3_64bits(word.data(), word.size()); }
  };
  using Table = std::unordered_map<std::string, std::vector<int32_t>, Hash, std::equal_to<>>;

  std::mutex mutex_;
  std::vector<std::unique_ptr<Table>> idle_;  // guarded by mutex_: tables that no thread works with now
};

}  // namespace echo
