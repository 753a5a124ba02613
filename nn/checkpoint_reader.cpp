#include "nn/checkpoint_reader.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/file.h"
#include "base/strict_json.h"
#include "weight_files/safetensors.h"
#include "weight_files/torch_archive.h"

namespace echo {
namespace {

constexpr std::array<std::string_view, 4> kWeightFiles = {"model.safetensors", "model.safetensors.index.json",
                                                          "pytorch_model.bin", "pytorch_model.bin.index.json"};
constexpr size_t kMaxIndexBytes = 64 << 20;

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// Older exporters store the rotary frequencies of each layer, which the config determines.
bool is_harmless_extra(std::string_view name) { return name.ends_with(".rotary_emb.inv_freq"); }

// The first few names, and how many more there are: "a, b, c and 4 more".
class NameList {
 public:
  void add(std::string text) {
    if (++count_ <= kShown) text_ += (text_.empty() ? "" : ", ") + std::move(text);
  }
  int64_t count() const { return count_; }
  std::string text() const { return count_ > kShown ? concat(text_, " and ", count_ - kShown, " more") : text_; }

 private:
  static constexpr int64_t kShown = 5;
  std::string text_;
  int64_t count_ = 0;
};

}  // namespace

CheckpointReader::CheckpointReader(fs::path folder) : folder_(std::move(folder)) {
  std::error_code ignored;
  if (!fs::is_directory(folder_, ignored))
    fail(ExitCode::input_missing, folder_.string(),
         ": no such folder; a model folder with config.json and weights is expected");
  if (!is_there(folder_ / "config.json"))
    fail(ExitCode::input_missing, folder_.string(), ": holds no config.json, so it is not a model folder");
  description_ = read_model_description(folder_ / "config.json");
  for (const std::string_view file : kWeightFiles) {
    if (!is_there(folder_ / file)) continue;
    if (file.ends_with(".json"))
      open_shards(std::string(file));
    else
      open_single(std::string(file));
    return;
  }
  fail(ExitCode::input_missing, folder_.string(), ": has no weights; looked for ", kWeightFiles[0], ", ", kWeightFiles[1], ", ",
       kWeightFiles[2], ", ", kWeightFiles[3]);
}

std::shared_ptr<TensorSource> CheckpointReader::open_source(const fs::path& file) const {
  constexpr std::string_view kPointer = "version https://git-lfs";
  std::array<char, kPointer.size()> start{};
  std::ifstream stream(file, std::ios::binary);
  if (stream.read(start.data(), std::streamsize(start.size())) && std::string_view(start.data(), start.size()) == kPointer)
    fail(ExitCode::bad_data, file.string(), ": is a Git LFS pointer, not the weights themselves; fetch them with git lfs pull");
  if (file.extension() == ".safetensors") return std::make_shared<SafetensorsReader>(file);
  return std::make_shared<TorchArchiveReader>(file);
}

void CheckpointReader::open_single(const std::string& file) {
  const auto source = open_source(folder_ / file);
  for (const StoredTensor& tensor : source->tensors()) sources_.emplace(tensor.name, source);
}

void CheckpointReader::open_shards(const std::string& index_file) {
  const fs::path path = folder_ / index_file;
  const auto refuse = [&](const auto&... parts) { fail(ExitCode::bad_data, path.string(), ": ", parts...); };
  std::error_code ignored;
  if (const auto size = fs::file_size(path, ignored); !ignored && size > kMaxIndexBytes)
    refuse("has ", size, " bytes, too many for an index");
  const nlohmann::json index = parse_strict_json(read_file(path), path.string());
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object() || index["weight_map"].empty())
    refuse("has no weight_map");
  const std::string_view extension = index_file.starts_with("model") ? ".safetensors" : ".bin";
  std::map<std::string, std::shared_ptr<TensorSource>> shards;
  for (const auto& [name, value] : index["weight_map"].items()) {
    if (!value.is_string()) refuse("the file of tensor ", name, " is not a text");
    const std::string& file = value.get_ref<const std::string&>();
    // Only a plain file name is allowed: an index from elsewhere must not point outside its folder.
    if (file != fs::path(file).filename() || !file.ends_with(extension) || file.find('\0') != std::string::npos)
      refuse("tensor ", name, " lies in \"", file.substr(0, 80), "\", which is not the name of a ", extension, " file");
    auto& shard = shards[file];
    if (!shard) {
      if (!is_there(folder_ / file))
        fail(ExitCode::input_missing, (folder_ / file).string(), ": is missing; ", index_file, " lists it");
      shard = open_source(folder_ / file);
    }
    if (!shard->has(name)) refuse("tensor ", name, " is not in ", file);
    sources_.emplace(name, shard);
  }
  for (const auto& [file, shard] : shards)
    for (const StoredTensor& tensor : shard->tensors())
      if (const auto listed = sources_.find(tensor.name); listed == sources_.end() || listed->second != shard)
        refuse("tensor ", tensor.name, " of ", file, " is not listed for that file");
}

const TensorSource* CheckpointReader::find_exact(const std::string& name) const {
  const auto found = sources_.find(name);
  return found == sources_.end() ? nullptr : found->second.get();
}

std::string CheckpointReader::stored_name(const std::string& name) const {
  if (config().tie_word_embeddings && find_exact(name) == nullptr) {
    if (name == kEmbeddingWeight) return std::string(kHeadWeight);
    if (name == kHeadWeight) return std::string(kEmbeddingWeight);
  }
  return name;
}

const TensorSource* CheckpointReader::find(const std::string& name) const { return find_exact(stored_name(name)); }

const TensorSource& CheckpointReader::source_of(const std::string& name) const {
  const TensorSource* source = find(name);
  if (source == nullptr) fail(ExitCode::bad_data, folder_.string(), ": the weights have no tensor ", name);
  return *source;
}

const StoredTensor& CheckpointReader::info(const std::string& name) const { return source_of(name).info(stored_name(name)); }
Tensor CheckpointReader::read(const std::string& name) const { return source_of(name).read(stored_name(name)); }
void CheckpointReader::read_into(const std::string& name, Tensor& destination) const {
  source_of(name).read_into(stored_name(name), destination);
}

void CheckpointReader::check(const std::vector<WeightShape>& expected, CheckOptions options) const {
  NameList missing, unexpected, wrong;
  std::set<std::string> wanted, unused;
  for (const WeightShape& weight : expected) {
    const std::string name = stored_name(weight.name);
    wanted.insert(name);
    if (find_exact(name) == nullptr) {
      missing.add(weight.name);
    } else if (const StoredTensor& stored = info(name); stored.shape != weight.shape || !is_float(stored.type)) {
      wrong.add(concat(name, " is ", stored.type, ' ', stored.shape, ", expected floats ", weight.shape));
    }
  }
  if (options.allow_unused)
    for (const WeightShape& weight : weight_shapes(config(), leader_map())) unused.insert(weight.name);
  const bool tied = config().tie_word_embeddings;
  for (const auto& [name, source] : sources_) {
    if (wanted.contains(name) || is_harmless_extra(name)) continue;
    if (unused.contains(name)) continue;
    if (tied && (name == kEmbeddingWeight || name == kHeadWeight)) continue;  // compared below
    unexpected.add(name);
  }
  std::string problems;
  const auto report = [&](const NameList& list, std::string_view what) {
    if (list.count() > 0) problems += concat(problems.empty() ? "" : "; ", list.count(), what, list.text());
  };
  report(missing, " missing: ");
  report(unexpected, " not expected: ");
  report(wrong, " of the wrong shape or type: ");
  if (!problems.empty()) fail(ExitCode::bad_data, folder_.string(), ": the weights do not fit config.json: ", problems);
  if (tied) check_tied_copies();
}

// A file may contain the shared matrix under both names. Then both must be equal. Otherwise config.json is wrong about tying.
void CheckpointReader::check_tied_copies() const {
  const std::string embedding(kEmbeddingWeight), head(kHeadWeight);
  if (find_exact(embedding) == nullptr || find_exact(head) == nullptr) return;
  const Tensor a = read(embedding), b = read(head);
  if (a.shape() != b.shape() || a.dtype() != b.dtype() ||
      (a.bytes() > 0 && std::memcmp(a.raw_data(), b.raw_data(), size_t(a.bytes())) != 0))
    fail(ExitCode::bad_data, folder_.string(), ": config.json says tie_word_embeddings, but ", embedding, " and ", head,
         " differ");
}

}  // namespace echo
