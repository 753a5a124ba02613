#include "nn/leader_map.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"

namespace echo {
namespace {

void require_layers(int64_t layers) {
  if (layers < 1) fail(ExitCode::config, "leader map: the number of layers is ", layers, ", expected at least 1");
}

// One flag per layer. Throws for a layer that does not exist or is listed twice.
std::vector<bool> flags_of(int64_t layers, const std::vector<int64_t>& listed) {
  std::vector<bool> is_listed(size_t(layers), false);
  for (const int64_t layer : listed) {
    if (layer < 0 || layer >= layers)
      fail(ExitCode::config, "leader map: listed layer ", layer, " does not exist; the layers are 0 to ", layers - 1);
    if (is_listed[size_t(layer)]) fail(ExitCode::config, "leader map: layer ", layer, " is listed twice; name it once");
    is_listed[size_t(layer)] = true;
  }
  return is_listed;
}

}  // namespace

LeaderMap::LeaderMap(std::vector<int64_t> leaders, std::string_view source) : leaders_(std::move(leaders)) {
  if (leaders_.empty()) fail(ExitCode::config, source, ": is empty; give one leader per layer");
  for (int64_t i = 0; i < layers(); ++i) {
    const int64_t to = leaders_[size_t(i)];
    if (to < 0 || to >= layers())
      fail(ExitCode::config, source, ": layer ", i, " points to ", to, ", which does not exist; the layers are 0 to ",
           layers() - 1, ", and ", i, " itself means its own attention");
    if (to > i)
      fail(ExitCode::config, source, ": layer ", i, " points forward to layer ", to,
           "; a matrix can only come from an earlier layer: use a value from 0 to ", i);
    if (leaders_[size_t(to)] != to)  // to < i here, so its own entry has been checked
      fail(ExitCode::config, source, ": layer ", i, " points to layer ", to, ", which itself follows layer ",
           leaders_[size_t(to)], "; point layer ", i, " to ", leaders_[size_t(to)]);
  }
}

LeaderMap LeaderMap::own(int64_t layers) {
  require_layers(layers);
  std::vector<int64_t> leaders(static_cast<size_t>(layers));
  for (int64_t i = 0; i < layers; ++i) leaders[size_t(i)] = i;
  return LeaderMap(std::move(leaders));
}

LeaderMap LeaderMap::from_list(int64_t layers, const std::vector<int64_t>& listed, ListMode mode) {
  require_layers(layers);
  const std::vector<bool> is_listed = flags_of(layers, listed);
  std::vector<int64_t> leaders(size_t(layers), 0);
  for (int64_t i = 1; i < layers; ++i) {
    // In mode `follow`, the nearest earlier unlisted layer is the leader of the previous layer, whether that one is listed or
    // not.
    const bool follows_previous = mode == ListMode::follow ? is_listed[size_t(i)] : is_listed[size_t(i - 1)];
    leaders[size_t(i)] = follows_previous ? leaders[size_t(i - 1)] : i;
  }
  return LeaderMap(std::move(leaders));
}

LeaderMap LeaderMap::from_ranking(const std::vector<int64_t>& ranking, int64_t followers, ListMode mode) {
  const int64_t layers = int64_t(ranking.size());
  require_layers(layers);
  flags_of(layers, ranking);
  if (followers < 0 || followers > layers - 1)
    fail(ExitCode::config, "leader map: ", followers, " followers requested; a model of ", layers, " layers has room for 0 to ",
         layers - 1);
  const int64_t without_effect = mode == ListMode::follow ? 0 : layers - 1;
  std::vector<int64_t> listed;
  for (const int64_t layer : ranking)
    if (layer != without_effect && int64_t(listed.size()) < followers) listed.push_back(layer);
  return from_list(layers, listed, mode);
}

LeaderMap LeaderMap::uniform(int64_t layers, int64_t own_first, int64_t blocks, int64_t block_size) {
  require_layers(layers);
  if (own_first < 0 || blocks < 0 || block_size < 1)
    fail(ExitCode::config, "leader map: uniform blocks need own_first >= 0, blocks >= 0 and block_size >= 1, not ", own_first,
         ", ", blocks, ", ", block_size);
  // Divisions, because the product may overflow.
  if (own_first > layers || blocks > (layers - own_first) / block_size)
    fail(ExitCode::config, "leader map: ", own_first, " own layers and ", blocks, " blocks of ", block_size,
         " do not fit into ", layers, " layers; use fewer or smaller blocks");
  LeaderMap map = own(layers);
  for (int64_t i = own_first; i < own_first + blocks * block_size; ++i)
    map.leaders_[size_t(i)] = i - (i - own_first) % block_size;
  return map;
}

LeaderMap LeaderMap::from_json(const nlohmann::json& list, std::string_view source) {
  if (!list.is_array()) fail(ExitCode::config, source, ": is not a list; give one leader per layer, e.g. [0, 1, 1, 3]");
  std::vector<int64_t> leaders;
  for (const nlohmann::json& entry : list) {
    const bool fits = entry.is_number_integer() && !(entry.is_number_unsigned() && entry.get<uint64_t>() > INT64_MAX);
    if (!fits) fail(ExitCode::config, source, ": the entry of layer ", leaders.size(), " is not the number of a layer");
    leaders.push_back(entry.get<int64_t>());
  }
  return LeaderMap(std::move(leaders), source);
}

nlohmann::json LeaderMap::to_json() const { return leaders_; }

std::vector<int64_t> LeaderMap::followers_of(int64_t leader) const {
  std::vector<int64_t> followers;
  for (int64_t i = leader + 1; i < layers(); ++i)
    if (leaders_[size_t(i)] == leader) followers.push_back(i);
  return followers;
}

int64_t LeaderMap::follower_count() const {
  int64_t count = 0;
  for (int64_t i = 0; i < layers(); ++i) count += follows(i);
  return count;
}

std::vector<LeaderMap::Block> LeaderMap::blocks() const {
  std::vector<Block> result;
  for (int64_t i = 0; i < layers(); ++i)
    if (!follows(i)) result.push_back({i, followers_of(i)});
  return result;
}

std::vector<std::pair<int64_t, int64_t>> LeaderMap::closed_spans() const {
  std::vector<std::pair<int64_t, int64_t>> spans;
  for (int64_t first = 0; first < layers();) {
    int64_t last = first;
    for (int64_t i = first; i <= last; ++i)
      for (const int64_t follower : followers_of(i)) last = std::max(last, follower);
    spans.emplace_back(first, last);
    first = last + 1;
  }
  return spans;
}

std::vector<int64_t> LeaderMap::block_ends() const {
  std::vector<int64_t> ends;
  for (const Block& block : blocks())
    if (!block.followers.empty()) ends.push_back(block.last());
  std::sort(ends.begin(), ends.end());
  return ends;
}

int64_t LeaderMap::parameters_removed(int64_t hidden, int64_t heads, int64_t kv_heads, int64_t head_dim) const {
  return follower_count() * (heads + kv_heads) * head_dim * hidden;
}

std::string LeaderMap::to_string() const {
  std::string text = "[";
  for (const int64_t leader : leaders_) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(leader);
  }
  return text + "]";
}

std::string LeaderMap::describe() const {
  std::string text;
  for (const Block& block : blocks()) {
    if (block.followers.empty()) continue;
    if (!text.empty()) text += "; ";
    text += concat(block.leader, " leads ", layer_ranges(block.followers));
  }
  return text.empty() ? "no sharing" : text;
}

std::string layer_ranges(const std::vector<int64_t>& layers) {
  std::string text;
  for (size_t begin = 0; begin < layers.size();) {
    size_t end = begin + 1;
    while (end < layers.size() && layers[end] == layers[end - 1] + 1) ++end;
    if (!text.empty()) text += ", ";
    text += std::to_string(layers[begin]);
    if (end - begin > 1) text += concat("-", layers[end - 1]);
    begin = end;
  }
  return text;
}

}  // namespace echo
