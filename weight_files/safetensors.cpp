#include "weight_files/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <string_view>

#include "base/error.h"

namespace echo {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format's own library
constexpr size_t kPieceBytes = size_t{4} << 20;
constexpr std::string_view kMetadataKey = "__metadata__";

struct HeaderEntry {
  std::string name;
  std::optional<StoredType> type;
  std::optional<std::vector<uint64_t>> shape;
  std::optional<std::vector<uint64_t>> offsets;
};

// Receives the header's JSON token by token, and stops at the first token that is not allowed. So a hostile header costs no
// more than its own length. Only the expected three levels can be nested.
class HeaderParser : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<HeaderEntry> entries;
  std::map<std::string, std::string> metadata;
  std::string problem;

  bool start_object(size_t) override {
    switch (state_) {
      case State::start:
        return enter(State::header);
      case State::header_value:
        if (key_ == kMetadataKey) return enter(State::metadata);
        entries.push_back({key_, {}, {}, {}});
        return enter(State::tensor);
      default:
        return refuse("an object where none is expected");
    }
  }
  bool end_object() override {
    switch (state_) {
      case State::header:
        return enter(State::end);
      case State::metadata:
        return enter(State::header);
      case State::tensor: {
        const HeaderEntry& entry = entries.back();
        if (!entry.type) return refuse("no dtype");
        if (!entry.shape) return refuse("no shape");
        if (!entry.offsets) return refuse("no data_offsets");
        return enter(State::header);
      }
      default:
        return refuse("an object ends where a value is expected");
    }
  }
  bool key(std::string& text) override {
    if (state_ == State::header) {
      if (!names_.insert(text).second) return refuse_text(std::string("tensor ") + text + " occurs twice");
      key_ = text;
      return enter(State::header_value);
    }
    key_ = text;
    if (state_ == State::metadata) {
      if (metadata.contains(text)) return refuse("metadata key \"" + text + "\" occurs twice");
      return enter(State::metadata_value);
    }
    HeaderEntry& entry = entries.back();
    if (text == "dtype") return entry.type ? refuse("dtype occurs twice") : enter(State::dtype_value);
    if (text == "shape") return entry.shape ? refuse("shape occurs twice") : enter(State::shape_value);
    if (text == "data_offsets") return entry.offsets ? refuse("data_offsets occurs twice") : enter(State::offsets_value);
    return refuse("unknown key \"" + text + "\"");
  }
  bool start_array(size_t) override {
    if (state_ == State::shape_value) {
      entries.back().shape.emplace();
      return enter(State::shape);
    }
    if (state_ == State::offsets_value) {
      entries.back().offsets.emplace();
      return enter(State::offsets);
    }
    return refuse("a list where none is expected");
  }
  bool end_array() override {
    if (state_ == State::offsets && entries.back().offsets->size() != 2) return refuse("data_offsets are not two numbers");
    return enter(State::tensor);
  }
  bool string(std::string& text) override {
    if (state_ == State::metadata_value) {
      metadata.emplace(key_, text);
      return enter(State::metadata);
    }
    if (state_ != State::dtype_value) return refuse("a text where none is expected");
    entries.back().type = stored_type_named(text);
    if (!entries.back().type) return refuse("dtype \"" + text + "\" is not supported");
    return enter(State::tensor);
  }
  bool number_unsigned(uint64_t value) override {
    if (state_ == State::shape) {
      if (entries.back().shape->size() == size_t(Shape::kMaxRank))
        return refuse("more than " + std::to_string(Shape::kMaxRank) + " dimensions");
      entries.back().shape->push_back(value);
      return true;
    }
    if (state_ == State::offsets) {
      if (entries.back().offsets->size() == 2) return refuse("data_offsets are not two numbers");
      entries.back().offsets->push_back(value);
      return true;
    }
    return refuse("a number where none is expected");
  }
  bool number_integer(int64_t) override { return refuse("a negative number"); }
  bool number_float(double, const std::string&) override { return refuse("a number that is not an integer"); }
  bool null() override { return refuse("null where a value is expected"); }
  bool boolean(bool) override { return refuse("true or false where a value is expected"); }
  bool binary(nlohmann::json::binary_t&) override { return refuse("binary data"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    if (problem.empty()) problem = "the header is not valid JSON at its byte " + std::to_string(position);
    return false;
  }

 private:
  enum class State {
    start,
    header,
    header_value,
    metadata,
    metadata_value,
    tensor,
    dtype_value,
    shape_value,
    shape,
    offsets_value,
    offsets,
    end,
  };

  bool enter(State state) {
    state_ = state;
    return true;
  }
  bool refuse_text(std::string text) {
    problem = std::move(text);
    return false;
  }
  bool refuse(const std::string& what) {
    switch (state_) {
      case State::start:
      case State::header:
      case State::end:
        return refuse_text("the header has " + what);
      case State::metadata:
      case State::metadata_value:
        return refuse_text("the metadata: " + what);
      case State::header_value:
        return refuse_text("tensor " + key_ + ": " + what);
      default:
        return refuse_text("tensor " + entries.back().name + ": " + what);
    }
  }

  State state_ = State::start;
  std::string key_;
  std::set<std::string> names_;
};

// extent_1 * extent_2 * ... * item, or nothing when it overflows.
std::optional<uint64_t> byte_count(const std::vector<uint64_t>& extents, uint64_t item) {
  uint64_t product = item;
  bool empty = false;
  for (const uint64_t extent : extents) {
    empty |= extent == 0;
    if (extent > uint64_t(std::numeric_limits<int64_t>::max())) return std::nullopt;
    if (extent != 0 && __builtin_mul_overflow(product, extent, &product)) return std::nullopt;
  }
  if (product > uint64_t(std::numeric_limits<int64_t>::max())) return std::nullopt;
  return empty ? 0 : product;
}

}  // namespace

SafetensorsReader::SafetensorsReader(const std::filesystem::path& path) : TensorSource(path), file_(path) {
  const auto refuse = [&](auto&&... parts) { fail(ExitCode::bad_data, path.string(), ": ", parts...); };
  const std::span<const std::byte> bytes = file_.bytes();
  if (bytes.size() < 8) refuse("is too short for a safetensors file (", bytes.size(), " bytes)");
  uint64_t header_bytes;
  std::memcpy(&header_bytes, bytes.data(), 8);
  if (header_bytes > kMaxHeaderBytes)
    refuse("is not a safetensors file: its header would have ", header_bytes, " bytes, over the limit of ", kMaxHeaderBytes);
  if (header_bytes > bytes.size() - 8)
    refuse("is truncated: the header has ", header_bytes, " bytes, the file only ", bytes.size());
  const std::string_view text(reinterpret_cast<const char*>(bytes.data() + 8), header_bytes);
  if (!text.starts_with('{')) refuse("is not a safetensors file: the header does not begin with {");

  HeaderParser parser;
  bool parsed = false;
  try {
    parsed = nlohmann::json::sax_parse(text.begin(), text.end(), &parser);
  } catch (const nlohmann::json::exception&) {  // for example a number out of range
  }
  if (!parsed) refuse(parser.problem.empty() ? "the header is not valid JSON" : parser.problem);

  // In file order, every tensor must begin where the previous one ends.
  std::vector<HeaderEntry>& entries = parser.entries;
  std::vector<size_t> order(entries.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return *entries[a].offsets < *entries[b].offsets; });
  const uint64_t data_begin = 8 + header_bytes, data_bytes = bytes.size() - data_begin;
  uint64_t end = 0;
  std::vector<StoredTensor> tensors;
  for (const size_t index : order) {
    const HeaderEntry& entry = entries[index];
    const uint64_t first = (*entry.offsets)[0], last = (*entry.offsets)[1];
    const auto wanted = byte_count(*entry.shape, uint64_t(size_of(*entry.type)));
    if (!wanted) refuse("tensor ", entry.name, ": its shape is larger than any file");
    if (last < first) refuse("tensor ", entry.name, ": data_offsets [", first, ", ", last, "] go backwards");
    if (last > data_bytes)
      refuse("is truncated or damaged: tensor ", entry.name, " ends at byte ", last, " of the data, of which there are ",
             data_bytes);
    if (last - first != *wanted)
      refuse("tensor ", entry.name, ": data_offsets span ", last - first, " bytes, shape and dtype need ", *wanted);
    if (first < end)
      refuse("tensor ", entry.name, ": begins at ", first, " and overlaps the previous tensor, which ends at ", end);
    if (first > end) refuse("tensor ", entry.name, ": leaves a hole of ", first - end, " bytes before it");
    end = last;
    Shape shape;
    for (const uint64_t extent : *entry.shape) shape.push_back(int64_t(extent));
    tensors.push_back({entry.name, *entry.type, shape, path});
    begins_.push_back(data_begin + first);
  }
  if (end != data_bytes) refuse("has ", data_bytes - end, " bytes after the last tensor");
  metadata_ = std::move(parser.metadata);
  set_tensors(std::move(tensors));
}

void SafetensorsReader::stream(size_t tensor, const ByteSink& sink) const {
  const size_t bytes = size_t(tensors()[tensor].bytes()), begin = begins_[tensor];
  for (size_t done = 0; done < bytes; done += kPieceBytes) {
    const size_t count = std::min(kPieceBytes, bytes - done);
    sink(file_.bytes().subspan(begin + done, count));
    file_.release(begin + done, count);
  }
}

void write_safetensors(const std::filesystem::path& path, const std::vector<TensorDescription>& tensors,
                       const TensorProvider& provider, const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(kMetadataKey)] = metadata;
  int64_t offset = 0;
  for (const TensorDescription& tensor : tensors) {
    ECHO_CHECK(tensor.name != kMetadataKey, "write_safetensors: a tensor cannot be named ", kMetadataKey);
    const int64_t bytes = tensor.shape.elements() * size_of(tensor.dtype);
    const auto extents = tensor.shape.extents();
    header[tensor.name] = {{"dtype", name_of(stored_type_of(tensor.dtype))},
                           {"shape", std::vector<int64_t>(extents.begin(), extents.end())},
                           {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  ECHO_CHECK(header.size() == tensors.size() + (metadata.empty() ? 0 : 1), "write_safetensors: a name occurs twice");
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception& error) {
    ECHO_CHECK(false, "write_safetensors: a name or metadata is not UTF-8: ", error.what());
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begins at a multiple of 8
  const uint64_t header_bytes = text.size();

  FileWriter writer(path);
  writer.write(&header_bytes, sizeof header_bytes);
  writer.write(text);
  for (const TensorDescription& description : tensors) {
    const Tensor tensor = provided(provider, description);
    writer.write(tensor.raw_data(), size_t(tensor.bytes()));
  }
  writer.finish();
}

void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  write_safetensors(path, describe(tensors), provider_of(tensors), metadata);
}

}  // namespace echo
