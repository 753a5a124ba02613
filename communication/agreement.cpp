#include "communication/agreement.h"

#include <set>
#include <vector>

#include "base/error.h"

namespace echo {
namespace {

constexpr size_t kMostListed = 5;

std::string packed(const Facts& facts) {
  std::string text;
  for (const auto& [name, value] : facts) text += name + '\0' + value + '\0';
  return text;
}

Facts unpacked(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\0', begin);
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  Facts facts;
  for (size_t i = 0; i + 1 < parts.size(); i += 2) facts[parts[i]] = parts[i + 1];
  return facts;
}

// "a is 1 on process(es) 0, 2 and 3 on process(es) 1"
std::string described(const std::string& name, const std::map<std::string, std::vector<size_t>>& ranks_by_value) {
  std::string text = name + " is ";
  for (bool first = true; const auto& [value, ranks] : ranks_by_value) {
    text += concat(first ? "" : " and ", value.empty() ? "empty" : value, " on process(es) ");
    for (size_t i = 0; i < ranks.size() && i < kMostListed; ++i) text += concat(i > 0 ? ", " : "", ranks[i]);
    if (ranks.size() > kMostListed) text += ", ...";
    first = false;
  }
  return text;
}

}  // namespace

void check_ranks_agree(Communicator& communicator, const Facts& facts) {
  const std::vector<std::string> packed_facts = communicator.all_gather(packed(facts));
  std::set<std::string> names;
  std::vector<Facts> all;
  for (const std::string& text : packed_facts) {
    all.push_back(unpacked(text));
    for (const auto& [name, value] : all.back()) names.insert(name);
  }
  std::string differences;
  size_t listed = 0;
  for (const std::string& name : names) {
    std::map<std::string, std::vector<size_t>> ranks_by_value;
    for (size_t rank = 0; rank < all.size(); ++rank) {
      const auto found = all[rank].find(name);
      ranks_by_value[found == all[rank].end() ? "absent" : found->second].push_back(rank);
    }
    if (ranks_by_value.size() == 1 || ++listed > kMostListed) continue;
    differences += concat(listed > 1 ? "; " : "", described(name, ranks_by_value));
  }
  if (listed > kMostListed) differences += concat("; and ", listed - kMostListed, " more");
  if (listed > 0)
    fail(ExitCode::config, "the processes differ: ", differences,
         "; start all of them with the same program, configuration and files");
}

}  // namespace echo
