#include "tokenizer/word_cache.h"

namespace echo {

void WordCache::encode(std::string_view text, const std::function<std::string_view(std::string_view& text)>& next_word,
                       const EncodeWord& encode_word, std::vector<int32_t>& ids) {
  std::unique_ptr<Table> table;
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      table = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!table) table = std::make_unique<Table>();
  std::vector<int32_t> fresh;
  while (!text.empty()) {
    const std::string_view word = next_word(text);
    if (const auto known = table->find(word); known != table->end()) {
      ids.insert(ids.end(), known->second.begin(), known->second.end());
      continue;
    }
    fresh.clear();
    encode_word(word, fresh);
    ids.insert(ids.end(), fresh.begin(), fresh.end());
    if (word.size() > kLongestWord) continue;
    if (table->size() == kWords) table->clear();
    table->emplace(word, fresh);
  }
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(table));
}

}  // namespace echo
