#include "tokenizer/charsmap_check.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/error.h"

namespace echo {
namespace {

constexpr size_t kLongestReplacement = 1024;
constexpr int kMostNestedRules = 32;

// One 32-bit unit of the double array.
struct Unit {
  uint32_t bits;
  uint32_t label() const { return bits & (0x80000000u | 0xFFu); }  // a value has the flag set, so it equals no byte
  bool has_leaf() const { return (bits >> 8) & 1u; }
  uint32_t offset() const { return (bits >> 10) << ((bits & (1u << 9)) >> 6); }
  uint32_t value() const { return bits & 0x7FFFFFFFu; }
};

class TrieCheck {
 public:
  TrieCheck(std::vector<Unit> units, std::string_view replacements, const std::string& where)
      : units_(std::move(units)), replacements_(replacements), where_(where), state_(units_.size()), nested_(units_.size()) {}

  void run() {
    // Depth first, without recursion, because a hostile trie may be as deep as its number of units. `nested_` of a finished
    // node is the largest number of rules on any path that begins at the node.
    std::vector<Visit> stack;
    stack.push_back(enter(0));
    while (!stack.empty()) {
      Visit& top = stack.back();
      if (top.next_label == 256) {
        const uint32_t node = top.node;
        const int deepest = top.deepest + (node != 0 && units_[node].has_leaf() ? 1 : 0);
        if (deepest > kMostNestedRules) refuse("more rules are prefixes of one another than the library supports");
        nested_[node] = deepest;
        state_[node] = State::finished;
        stack.pop_back();
        if (!stack.empty()) stack.back().deepest = std::max(stack.back().deepest, deepest);
        continue;
      }
      const uint32_t label = top.next_label++;
      const uint32_t child = top.base ^ label;
      if (units_[child].label() != label) continue;
      if (state_[child] == State::open) refuse("the trie has a cycle");
      if (state_[child] == State::finished)
        top.deepest = std::max(top.deepest, nested_[child]);
      else
        stack.push_back(enter(child));
    }
  }

 private:
  enum class State : uint8_t { unseen, open, finished };
  struct Visit {
    uint32_t node, base, next_label;
    int deepest;
  };

  [[noreturn]] void refuse(const char* what) const {
    fail(ExitCode::bad_data, where_, ": the normalisation rules are damaged: ", what);
  }

  Visit enter(uint32_t node) {
    state_[node] = State::open;
    const uint32_t base = node ^ units_[node].offset();
    // Children are at base ^ label. All of them are inside the array if the aligned block of 256 around base is.
    if ((base | 0xFFu) >= units_.size()) refuse("an offset points outside the trie");
    if (node != 0 && units_[node].has_leaf()) {
      const uint32_t value = units_[base].value();
      if (value >= replacements_.size()) refuse("a rule's replacement lies outside the table");
      // The table ends with a zero byte (checked before), so a terminator exists.
      if (replacements_.substr(value, kLongestReplacement + 1).find('\0') == std::string_view::npos)
        refuse("a replacement is longer than 1 KiB");
    }
    return {node, base, 0, 0};
  }

  const std::vector<Unit> units_;
  const std::string_view replacements_;
  const std::string& where_;
  std::vector<State> state_;
  std::vector<int> nested_;
};

}  // namespace

void check_charsmap(std::string_view charsmap, const std::string& where) {
  if (charsmap.empty()) return;
  uint32_t trie_bytes = 0;
  if (charsmap.size() < sizeof trie_bytes)
    fail(ExitCode::bad_data, where, ": the normalisation rules are damaged: only ", charsmap.size(), " bytes");
  std::memcpy(&trie_bytes, charsmap.data(), sizeof trie_bytes);
  const size_t rest = charsmap.size() - sizeof trie_bytes;
  if (trie_bytes >= rest)
    fail(ExitCode::bad_data, where, ": the normalisation rules are damaged: a trie of ", trie_bytes,
         " bytes is declared where ", rest, " are left");
  if (trie_bytes == 0 || trie_bytes % (256 * sizeof(Unit)) != 0)
    fail(ExitCode::bad_data, where, ": the normalisation rules are damaged: a trie of ", trie_bytes,
         " bytes is not made of blocks of 1024");
  if (charsmap.back() != '\0')
    fail(ExitCode::bad_data, where, ": the normalisation rules are damaged: the last replacement has no end");
  std::vector<Unit> units(trie_bytes / sizeof(Unit));
  std::memcpy(units.data(), charsmap.data() + sizeof trie_bytes, trie_bytes);
  TrieCheck(std::move(units), charsmap.substr(sizeof trie_bytes + trie_bytes), where).run();
}

}  // namespace echo
