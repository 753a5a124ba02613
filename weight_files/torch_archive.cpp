#include "weight_files/torch_archive.h"

#include <zip.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "weight_files/pickle.h"
#include "weight_files/zip_handle.h"

namespace echo {
namespace {

constexpr uint64_t kMaxPickleBytes = 16 << 20;  // about 100 bytes per tensor are usual
constexpr size_t kPieceBytes = size_t{1} << 20;

// The position of the elements of one tensor.
struct Location {
  zip_uint64_t entry = 0;
  int64_t offset = 0;  // elements
  std::vector<int64_t> extents, strides;
  bool contiguous = true;
};

// offset + sum (extent - 1) * stride: the index of the last element, or nothing when it overflows. No extent is zero.
std::optional<int64_t> last_element(const Location& location) {
  int64_t last = location.offset;
  for (size_t i = 0; i < location.extents.size(); ++i) {
    int64_t reach;
    if (__builtin_mul_overflow(location.extents[i] - 1, location.strides[i], &reach) ||
        __builtin_add_overflow(last, reach, &last))
      return std::nullopt;
  }
  return last;
}

bool is_row_major(const std::vector<int64_t>& extents, const std::vector<int64_t>& strides) {
  int64_t next = 1;
  for (size_t i = extents.size(); i-- > 0;) {
    if (extents[i] != 1 && strides[i] != next) return false;
    next *= extents[i];
  }
  return true;
}

}  // namespace

struct TorchArchiveReader::Archive {
  ZipHandle zip;
  std::filesystem::path path;
  std::string prefix;
  zip_uint64_t pickle = 0;  // the entry data.pkl
  std::vector<Location> locations;

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(ExitCode::bad_data, path.string(), ": ", parts...);
  }

  explicit Archive(const std::filesystem::path& file) : path(file) {
    {
      const MappedFile mapped(path);  // throws for a missing file or a folder
      const std::string_view start(reinterpret_cast<const char*>(mapped.bytes().data()),
                                   std::min<size_t>(mapped.bytes().size(), 4));
      if (start.starts_with("\x80\x02"))
        refuse("was saved in torch's format from before version 1.6; load and save it again with a newer torch");
      if (!start.starts_with("PK")) refuse("is not a file that torch.save wrote (not a zip archive)");
    }
    std::string why;
    zip = open_zip(path, ZIP_RDONLY, why);
    if (!zip) refuse("is not a valid zip archive, or truncated: ", why);
    constexpr std::string_view kPickle = "/data.pkl";
    bool found = false;
    for (zip_int64_t i = 0; i < ::zip_get_num_entries(zip.get(), 0); ++i) {
      const char* name = ::zip_get_name(zip.get(), zip_uint64_t(i), 0);
      const std::string_view view = name != nullptr ? name : "";
      if (!view.ends_with(kPickle) || view.find('/') != view.size() - kPickle.size()) continue;
      if (found) refuse("contains two archives, ", prefix, " and ", view);
      found = true;
      pickle = zip_uint64_t(i);
      prefix = view.substr(0, view.size() - kPickle.size());
    }
    if (!found) refuse("has no data.pkl: not a file that torch.save wrote");
  }

  std::optional<zip_uint64_t> find(const std::string& name) const {
    const zip_int64_t index = ::zip_name_locate(zip.get(), (prefix + "/" + name).c_str(), 0);
    if (index < 0) return std::nullopt;
    return zip_uint64_t(index);
  }

  // The size of an entry's content. Throws when the stored bytes cannot give that size.
  uint64_t size_of_entry(zip_uint64_t entry) const {
    zip_stat_t status;
    constexpr zip_uint64_t kNeeded = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
    if (::zip_stat_index(zip.get(), entry, 0, &status) != 0 || (status.valid & kNeeded) != kNeeded)
      refuse("an entry of the zip archive is damaged: ", ::zip_strerror(zip.get()));
    // deflate stores at best 258 bytes in 2 bits
    if ((status.comp_method == ZIP_CM_STORE && status.size != status.comp_size) || status.size / 1033 > status.comp_size)
      refuse("entry ", status.name, " of the zip archive claims ", status.size, " bytes and stores ", status.comp_size);
    return status.size;
  }

  ZipEntryHandle open_entry(zip_uint64_t entry) const {
    ZipEntryHandle opened(::zip_fopen_index(zip.get(), entry, 0));
    if (!opened) refuse("an entry of the zip archive cannot be read: ", ::zip_strerror(zip.get()));
    return opened;
  }

  void read_exactly(zip_file_t* opened, std::span<std::byte> bytes) const {
    for (size_t done = 0; done < bytes.size();) {
      const zip_int64_t count = ::zip_fread(opened, bytes.data() + done, bytes.size() - done);
      if (count <= 0)
        refuse("is truncated or damaged: ",
               count < 0 ? ::zip_error_strerror(::zip_file_get_error(opened)) : "an entry ends early");
      done += size_t(count);
    }
  }

  // libzip compares the checksum when it reaches the end, which needs one more read.
  void expect_end(zip_file_t* opened) const {
    std::byte extra;
    const zip_int64_t count = ::zip_fread(opened, &extra, 1);
    if (count != 0)
      refuse("is damaged: ", count < 0 ? ::zip_error_strerror(::zip_file_get_error(opened)) : "an entry is too long");
  }

  std::string read_small_entry(zip_uint64_t entry, uint64_t limit, std::string_view what) const {
    const uint64_t size = size_of_entry(entry);
    if (size > limit) refuse(what, " has ", size, " bytes, over the limit of ", limit);
    std::string content(size, '\0');
    const auto opened = open_entry(entry);
    read_exactly(opened.get(), std::as_writable_bytes(std::span(content)));
    expect_end(opened.get());
    return content;
  }

  void skip(zip_file_t* opened, zip_uint64_t entry, uint64_t bytes) const {
    if (bytes == 0) return;
    zip_stat_t status;
    if (::zip_stat_index(zip.get(), entry, 0, &status) == 0 && status.comp_method == ZIP_CM_STORE &&
        ::zip_fseek(opened, zip_int64_t(bytes), SEEK_SET) == 0)
      return;
    std::vector<std::byte> piece(std::min<uint64_t>(bytes, kPieceBytes));
    for (uint64_t done = 0; done < bytes; done += piece.size())
      read_exactly(opened, std::span(piece).first(std::min<uint64_t>(piece.size(), bytes - done)));
  }
};

TorchArchiveReader::TorchArchiveReader(const std::filesystem::path& path)
    : TensorSource(path), archive_(std::make_unique<Archive>(path)) {
  const Archive& archive = *archive_;
  if (const auto byteorder = archive.find("byteorder"))
    if (const std::string order = archive.read_small_entry(*byteorder, 64, "byteorder"); order != "little")
      archive.refuse("was saved on a machine with another byte order (", order, ")");
  const std::string pickle = archive.read_small_entry(archive.pickle, kMaxPickleBytes, "data.pkl");
  std::vector<StoredTensor> tensors;
  for (PickledTensor& tensor : read_pickled_state_dict(std::as_bytes(std::span(pickle)), path.string())) {
    const auto refuse = [&](const auto&... parts) { archive.refuse("tensor ", tensor.name, ": ", parts...); };
    if (tensor.extents.size() > size_t(Shape::kMaxRank))
      refuse("has ", tensor.extents.size(), " dimensions, at most ", Shape::kMaxRank);
    const auto entry = archive.find("data/" + tensor.storage_key);
    if (!entry) refuse("its storage ", tensor.storage_key, " is not in the archive");
    const uint64_t stored_bytes = archive.size_of_entry(*entry);
    const uint64_t item = uint64_t(size_of(tensor.type));
    if (uint64_t(tensor.storage_elements) > std::numeric_limits<int64_t>::max() / item ||
        stored_bytes != uint64_t(tensor.storage_elements) * item)
      refuse("its storage ", tensor.storage_key, " has ", stored_bytes, " bytes, expected ", tensor.storage_elements, " x ",
             item);

    Location location{*entry, tensor.offset, tensor.extents, tensor.strides, true};
    const bool empty = std::find(tensor.extents.begin(), tensor.extents.end(), 0) != tensor.extents.end();
    int64_t elements = 1;
    for (const int64_t extent : tensor.extents)
      if (extent != 0 && __builtin_mul_overflow(elements, extent, &elements)) refuse("its shape is larger than any file");
    if (!empty) {
      const auto last = last_element(location);
      if (!last || *last >= tensor.storage_elements)
        refuse("shape, strides and offset leave its storage of ", tensor.storage_elements, " elements");
      // Repeated elements (stride 0) would allow a small file to request any amount of memory.
      if (elements > tensor.storage_elements) refuse("has ", elements, " elements, its storage only ", tensor.storage_elements);
      location.contiguous = is_row_major(tensor.extents, tensor.strides);
    }
    tensors.push_back({tensor.name, tensor.type, Shape(std::span<const int64_t>(tensor.extents)), path});
    archive_->locations.push_back(std::move(location));
  }
  set_tensors(std::move(tensors));
}

TorchArchiveReader::~TorchArchiveReader() = default;

void TorchArchiveReader::stream(size_t tensor, const ByteSink& sink) const {
  const StoredTensor& stored = tensors()[tensor];
  const Location& location = archive_->locations[tensor];
  const uint64_t bytes = uint64_t(stored.bytes());
  if (bytes == 0) return;
  const size_t item = size_t(size_of(stored.type));
  const auto opened = archive_->open_entry(location.entry);
  archive_->skip(opened.get(), location.entry, uint64_t(location.offset) * item);

  if (location.contiguous) {
    std::vector<std::byte> piece(std::min<uint64_t>(bytes, kPieceBytes));
    for (uint64_t done = 0; done < bytes;) {
      const auto part = std::span(piece).first(std::min<uint64_t>(piece.size(), bytes - done));
      archive_->read_exactly(opened.get(), part);
      sink(part);
      done += part.size();
    }
    if (location.offset == 0 && bytes == archive_->size_of_entry(location.entry)) archive_->expect_end(opened.get());
    return;
  }

  // A transposed or cut view: read the spanned part of the storage, then pick the elements row by row.
  std::vector<std::byte> span_bytes(size_t(*last_element(location) - location.offset + 1) * item);
  archive_->read_exactly(opened.get(), span_bytes);
  const size_t last_dimension = location.extents.size() - 1;
  std::vector<std::byte> row(size_t(location.extents[last_dimension]) * item);
  std::vector<int64_t> position(location.extents.size(), 0);
  for (int64_t rows = stored.shape.elements() / location.extents[last_dimension]; rows > 0; --rows) {
    int64_t begin = 0;
    for (size_t i = 0; i < last_dimension; ++i) begin += position[i] * location.strides[i];
    for (int64_t i = 0; i < location.extents[last_dimension]; ++i)
      std::memcpy(row.data() + size_t(i) * item,
                  span_bytes.data() + size_t(begin + i * location.strides[last_dimension]) * item, item);
    sink(row);
    for (size_t i = last_dimension; i-- > 0;) {
      if (++position[i] < location.extents[i]) break;
      position[i] = 0;
    }
  }
}

}  // namespace echo
