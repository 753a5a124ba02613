#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace echo {

// How a list of layers becomes a leader map. The paper describes both ways; its published lists fit `follow`.
enum class ListMode {
  follow,  // paper mode A: a listed layer uses the matrix of the nearest earlier layer that is not listed
  lend,    // paper mode B: the layer after a listed layer uses the same matrix as the listed layer
};

// Which layer's attention matrix each layer uses. leader(i) == i: layer i computes its own matrix. leader(i) < i: layer i
// follows that layer, which computes its own. A follower has no query and key projections. A LeaderMap is immutable, and always
// valid. All functions throw Error (config) for invalid arguments, with layer, value and remedy.
class LeaderMap {
 public:
  // A layer that computes its matrix, and the later layers that use it (ascending, not necessarily contiguous).
  struct Block {
    int64_t leader;
    std::vector<int64_t> followers;
    int64_t last() const { return followers.empty() ? leader : followers.back(); }
  };

  // `source` begins every error message: the file and key of the numbers.
  explicit LeaderMap(std::vector<int64_t> leaders, std::string_view source = "leader map");

  // No sharing: every layer computes its own matrix.
  static LeaderMap own(int64_t layers);

  // Builds a map from distinct layers, in any order.
  // follow: the listed layers become followers. Layer 0 has no earlier layer: when listed it computes its own matrix, and
  // counts as
  //   not listed for the layers after it.
  // lend: the layer after each listed one becomes a follower. A listed layer that is itself a follower passes on the matrix of
  // its
  //   leader. So a run of listed layers a, a+1, .., b makes a the leader of a+1 .. b+1. The last layer has no next layer:
  //   listing it has no effect.
  static LeaderMap from_list(int64_t layers, const std::vector<int64_t>& listed, ListMode mode = ListMode::follow);

  // Calls from_list with the first layers of `ranking` (a permutation of all layers, most alike first): as many as give
  // `followers` followers. The layer that has no effect in a list (layer 0 for `follow`, the last for `lend`) is skipped.
  static LeaderMap from_ranking(const std::vector<int64_t>& ranking, int64_t followers, ListMode mode = ListMode::follow);

  // The first `own_first` layers compute their own matrices. Then come `blocks` blocks of `block_size` contiguous layers, each
  // led by its first layer. The remaining layers compute their own matrices.
  static LeaderMap uniform(int64_t layers, int64_t own_first, int64_t blocks, int64_t block_size);

  // A JSON list of whole numbers, for example the value of "leader_map" in config.json.
  static LeaderMap from_json(const nlohmann::json& list, std::string_view source = "leader map");
  nlohmann::json to_json() const;

  int64_t layers() const { return int64_t(leaders_.size()); }
  int64_t leader(int64_t layer) const { return leaders_.at(size_t(layer)); }
  bool follows(int64_t layer) const { return leader(layer) != layer; }
  const std::vector<int64_t>& leaders() const { return leaders_; }

  std::vector<int64_t> followers_of(int64_t leader) const;  // ascending; empty for a follower
  int64_t follower_count() const;
  bool shares() const { return follower_count() > 0; }
  std::vector<Block> blocks() const;  // one per leader, in order of the leaders, including blocks of one layer

  // Divides all layers into the shortest runs [first, last] that contain whole blocks. These runs are recomputed together.
  std::vector<std::pair<int64_t, int64_t>> closed_spans() const;

  // The last layer of every block with a follower, ascending. The intermediate loss compares these layers.
  std::vector<int64_t> block_ends() const;

  // Parameters that the followers do not have: followers * (heads + kv_heads) * head_dim * hidden.
  int64_t parameters_removed(int64_t hidden, int64_t heads, int64_t kv_heads, int64_t head_dim) const;

  std::string to_string() const;  // [0, 1, 1, 3]: valid JSON and YAML
  std::string describe() const;   // "1 leads 2; 4 leads 5-8, 10", or "no sharing"

  bool operator==(const LeaderMap&) const = default;

 private:
  std::vector<int64_t> leaders_;
};

// Layers as text: "3", "3-7", "0, 20-21". Consecutive layers are joined. `layers` must be ascending.
std::string layer_ranges(const std::vector<int64_t>& layers);

}  // namespace echo
