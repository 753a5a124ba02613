#include "weight_files/torch_archive.h"

#include <fcntl.h>
#include <unistd.h>
#include <zip.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "weight_files/pickle.h"

namespace echo {
namespace {

constexpr uint64_t kMaxPickleBytes = 16 << 20;  // some 100 bytes per tensor are usual
constexpr size_t kPieceBytes = size_t{1} << 20;

// Where the elements of one tensor are.
struct Location {
  zip_uint64_t entry = 0;
  int64_t offset = 0;  // elements
  std::vector<int64_t> extents, strides;
  bool contiguous = true;
};

struct ZipClose {
  void operator()(zip_t* zip) const { ::zip_discard(zip); }
  void operator()(zip_file_t* file) const { ::zip_fclose(file); }
};

// offset + sum (extent - 1) * stride: the last element, or nothing when that does not fit. No extent is zero.
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
  std::unique_ptr<zip_t, ZipClose> zip;
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
      const MappedFile mapped(path);  // refuses a missing file and a folder
      const std::string_view start(reinterpret_cast<const char*>(mapped.bytes().data()),
                                   std::min<size_t>(mapped.bytes().size(), 4));
      if (start.starts_with("\x80\x02"))
        refuse("was saved in torch's format from before version 1.6; load and save it again with a newer torch");
      if (!start.starts_with("PK")) refuse("is not a file that torch.save wrote (not a zip archive)");
    }
    int code = 0;
    zip.reset(::zip_open(path.c_str(), ZIP_RDONLY, &code));
    if (!zip) {
      zip_error_t error;
      ::zip_error_init_with_code(&error, code);
      const std::string why = ::zip_error_strerror(&error);
      ::zip_error_fini(&error);
      refuse("is not a valid zip archive, or truncated: ", why);
    }
    constexpr std::string_view kPickle = "/data.pkl";
    bool found = false;
    for (zip_int64_t i = 0; i < ::zip_get_num_entries(zip.get(), 0); ++i) {
      const char* name = ::zip_get_name(zip.get(), zip_uint64_t(i), 0);
      const std::string_view view = name != nullptr ? name : "";
      if (!view.ends_with(kPickle) || view.find('/') != view.size() - kPickle.size()) continue;
      if (found) refuse("holds two archives, ", prefix, " and ", view);
      found = true;
      pickle = zip_uint64_t(i);
      prefix = view.substr(0, view.size() - kPickle.size());
    }
    if (!found) refuse("holds no data.pkl: not a file that torch.save wrote");
  }

  std::optional<zip_uint64_t> find(const std::string& name) const {
    const zip_int64_t index = ::zip_name_locate(zip.get(), (prefix + "/" + name).c_str(), 0);
    if (index < 0) return std::nullopt;
    return zip_uint64_t(index);
  }

  // The size of an entry's content, refused when no content of that size can come out of what is stored.
  uint64_t size_of_entry(zip_uint64_t entry) const {
    zip_stat_t status;
    constexpr zip_uint64_t kNeeded = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
    if (::zip_stat_index(zip.get(), entry, 0, &status) != 0 || (status.valid & kNeeded) != kNeeded)
      refuse("an entry of the zip archive is damaged: ", ::zip_strerror(zip.get()));
    // deflate packs 258 bytes into 2 bits at best
    if ((status.comp_method == ZIP_CM_STORE && status.size != status.comp_size) || status.size / 1033 > status.comp_size)
      refuse("entry ", status.name, " of the zip archive claims ", status.size, " bytes and stores ", status.comp_size);
    return status.size;
  }

  std::unique_ptr<zip_file_t, ZipClose> open_entry(zip_uint64_t entry) const {
    std::unique_ptr<zip_file_t, ZipClose> opened(::zip_fopen_index(zip.get(), entry, 0));
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

  // The check sum is compared when the end is met, which takes one more read.
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
      refuse("its storage ", tensor.storage_key, " has ", stored_bytes, " bytes, declared are ", tensor.storage_elements, " x ",
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
      // Repeated elements (stride 0) would let a small file ask for any amount of memory.
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

  // A transposed or cut view: the part of the storage that it spans is read, then its elements are picked row by row.
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

namespace {

// The content of one entry: a text, or a tensor that is asked for when the entry is written.
struct Entry {
  std::string name;
  std::string text;
  const TensorDescription* description = nullptr;
  const TensorProvider* provider = nullptr;
  std::exception_ptr* failure = nullptr;

  Tensor tensor;
  std::span<const std::byte> rest;
  zip_error_t error;

  uint64_t size() const {
    return description == nullptr ? text.size() : uint64_t(description->shape.elements() * size_of(description->dtype));
  }
};

// What libzip calls to get an entry's bytes. No exception may pass through libzip, so it is kept for later.
zip_int64_t give_bytes(void* user, void* data, zip_uint64_t length, zip_source_cmd_t command) {
  Entry& entry = *static_cast<Entry*>(user);
  switch (command) {
    case ZIP_SOURCE_OPEN:
      entry.rest = std::as_bytes(std::span(entry.text));
      if (entry.description == nullptr) return 0;
      try {
        entry.tensor = provided(*entry.provider, *entry.description);
        entry.rest = {static_cast<const std::byte*>(entry.tensor.raw_data()), size_t(entry.tensor.bytes())};
        return 0;
      } catch (...) {
        *entry.failure = std::current_exception();
        ::zip_error_set(&entry.error, ZIP_ER_OPEN, 0);
        return -1;
      }
    case ZIP_SOURCE_READ: {
      const size_t count = std::min<size_t>(length, entry.rest.size());
      if (count > 0) std::memcpy(data, entry.rest.data(), count);
      entry.rest = entry.rest.subspan(count);
      return zip_int64_t(count);
    }
    case ZIP_SOURCE_CLOSE:
      entry.tensor = Tensor();
      entry.rest = {};
      return 0;
    case ZIP_SOURCE_STAT: {
      auto& status = *static_cast<zip_stat_t*>(data);
      ::zip_stat_init(&status);
      status.size = entry.size();
      status.valid |= ZIP_STAT_SIZE;
      return sizeof status;
    }
    case ZIP_SOURCE_ERROR:
      return ::zip_error_to_data(&entry.error, data, length);
    case ZIP_SOURCE_FREE:
      return 0;
    case ZIP_SOURCE_SUPPORTS:
      return ::zip_source_make_command_bitmap(ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT,
                                              ZIP_SOURCE_ERROR, ZIP_SOURCE_FREE, -1);
    default:
      ::zip_error_set(&entry.error, ZIP_ER_OPNOTSUPP, 0);
      return -1;
  }
}

}  // namespace

void write_torch_archive(const std::filesystem::path& path, const std::vector<TensorDescription>& tensors,
                         const TensorProvider& provider) {
  std::exception_ptr failure;
  std::vector<PickledTensor> pickled;
  std::vector<Entry> entries(tensors.size() + 3);  // never resized: libzip keeps addresses
  size_t filled = 0;
  for (const TensorDescription& tensor : tensors) {
    const auto extents = tensor.shape.extents();
    PickledTensor description{tensor.name,
                              stored_type_of(tensor.dtype),
                              std::to_string(filled),
                              tensor.shape.elements(),
                              0,
                              {extents.begin(), extents.end()},
                              std::vector<int64_t>(extents.size())};
    int64_t next = 1;
    for (size_t i = extents.size(); i-- > 0; next *= std::max<int64_t>(extents[i], 1)) description.strides[i] = next;
    Entry& entry = entries[filled + 1];
    entry.name = "archive/data/" + description.storage_key;
    entry.description = &tensor;
    pickled.push_back(std::move(description));
    ++filled;
  }
  entries.front().name = "archive/data.pkl";
  entries.front().text = write_pickled_state_dict(pickled);
  entries[filled + 1].name = "archive/byteorder";
  entries[filled + 1].text = "little";
  entries[filled + 2].name = "archive/version";
  entries[filled + 2].text = "3\n";

  const auto refuse = [&](const std::string& why) { fail(ExitCode::io, path.string(), ": writing failed: ", why); };
  int code = 0;
  std::unique_ptr<zip_t, ZipClose> zip(::zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code));
  if (!zip) {
    zip_error_t error;
    ::zip_error_init_with_code(&error, code);
    const std::string why = ::zip_error_strerror(&error);
    ::zip_error_fini(&error);
    refuse(why);
  }
  for (Entry& entry : entries) {
    entry.provider = &provider;
    entry.failure = &failure;
    ::zip_error_init(&entry.error);
    zip_source_t* source = ::zip_source_function(zip.get(), give_bytes, &entry);
    if (source == nullptr) refuse(::zip_strerror(zip.get()));
    const zip_int64_t index = ::zip_file_add(zip.get(), entry.name.c_str(), source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
      const std::string why = ::zip_strerror(zip.get());
      ::zip_source_free(source);
      refuse(why);
    }
    // torch.load reads stored entries only; a fixed date keeps the bytes equal from run to run (1 January 1980).
    constexpr zip_uint16_t kFirstDate = 0x21;
    if (::zip_set_file_compression(zip.get(), zip_uint64_t(index), ZIP_CM_STORE, 0) != 0 ||
        ::zip_file_set_dostime(zip.get(), zip_uint64_t(index), 0, kFirstDate, 0) != 0)
      refuse(::zip_strerror(zip.get()));
  }
  if (::zip_close(zip.get()) != 0) {
    if (failure) std::rethrow_exception(failure);
    refuse(::zip_strerror(zip.get()));
  }
  (void)zip.release();  // zip_close freed it

  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = descriptor >= 0 && ::fsync(descriptor) == 0;
  const std::string why = synced ? "" : std::strerror(errno);
  if (descriptor >= 0) ::close(descriptor);
  if (!synced) refuse(why);
  sync_folder(path.parent_path());
}

void write_torch_archive(const std::filesystem::path& path, const NamedTensors& tensors) {
  write_torch_archive(path, describe(tensors), provider_of(tensors));
}

}  // namespace echo
