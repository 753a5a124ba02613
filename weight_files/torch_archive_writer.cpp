#include <zip.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "weight_files/pickle.h"
#include "weight_files/torch_archive.h"
#include "weight_files/zip_handle.h"

namespace echo {
namespace {

// The content of one entry: a text, or a tensor that is requested when the entry is written.
struct Entry {
  std::string name;
  std::string text{};
  const TensorDescription* description = nullptr;
  const TensorProvider* provider = nullptr;
  std::exception_ptr* failure = nullptr;

  Tensor tensor{};
  std::span<const std::byte> rest{};
  zip_error_t error{};

  uint64_t size() const {
    return description == nullptr ? text.size() : uint64_t(description->shape.elements() * size_of(description->dtype));
  }
};

// The callback through which libzip reads an entry. No exception may pass through libzip, so it is stored and rethrown later.
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

std::vector<int64_t> row_major_strides(std::span<const int64_t> extents) {
  std::vector<int64_t> strides(extents.size());
  int64_t next = 1;
  for (size_t i = extents.size(); i-- > 0; next *= std::max<int64_t>(extents[i], 1)) strides[i] = next;
  return strides;
}

// data.pkl, one entry per tensor, and the other entries that torch.save writes. The vector must not be resized after entries
// were added to an archive, because libzip keeps their addresses.
std::vector<Entry> archive_entries(const std::vector<TensorDescription>& tensors) {
  std::vector<Entry> entries(1);
  std::vector<PickledTensor> pickled;
  for (const TensorDescription& tensor : tensors) {
    const auto extents = tensor.shape.extents();
    const std::string key = std::to_string(pickled.size());
    pickled.push_back({.name = tensor.name,
                       .type = stored_type_of(tensor.dtype),
                       .storage_key = key,
                       .storage_elements = tensor.shape.elements(),
                       .extents = {extents.begin(), extents.end()},
                       .strides = row_major_strides(extents)});
    entries.push_back({.name = "archive/data/" + key, .description = &tensor});
  }
  entries.front() = {.name = "archive/data.pkl", .text = write_pickled_state_dict(pickled)};
  entries.push_back({.name = "archive/byteorder", .text = "little"});
  entries.push_back({.name = "archive/version", .text = "3\n"});
  return entries;
}

// Adds an entry, whose address must not change until the archive is closed. Returns the error text, or "".
std::string add_entry(zip_t* zip, Entry& entry) {
  ::zip_error_init(&entry.error);
  zip_source_t* source = ::zip_source_function(zip, give_bytes, &entry);
  if (source == nullptr) return ::zip_strerror(zip);
  const zip_int64_t index = ::zip_file_add(zip, entry.name.c_str(), source, ZIP_FL_ENC_UTF_8);
  if (index < 0) {
    const std::string why = ::zip_strerror(zip);
    ::zip_source_free(source);
    return why;
  }
  // torch.load reads only stored (uncompressed) entries. A fixed date (1 January 1980) keeps the bytes equal in every run.
  constexpr zip_uint16_t kFirstDate = 0x21;
  const bool done = ::zip_set_file_compression(zip, zip_uint64_t(index), ZIP_CM_STORE, 0) == 0 &&
                    ::zip_file_set_dostime(zip, zip_uint64_t(index), 0, kFirstDate, 0) == 0;
  return done ? "" : ::zip_strerror(zip);
}

}  // namespace

void write_torch_archive(const std::filesystem::path& path, const std::vector<TensorDescription>& tensors,
                         const TensorProvider& provider) {
  const auto refuse = [&](const std::string& why) { fail(ExitCode::io, path.string(), ": writing failed: ", why); };
  std::exception_ptr failure;  // what the provider threw
  std::vector<Entry> entries = archive_entries(tensors);
  std::string why;
  ZipHandle zip = open_zip(path, ZIP_CREATE | ZIP_TRUNCATE, why);
  if (!zip) refuse(why);
  for (Entry& entry : entries) {
    entry.provider = &provider;
    entry.failure = &failure;
    if (why = add_entry(zip.get(), entry); !why.empty()) refuse(why);
  }
  if (::zip_close(zip.get()) != 0) {
    if (failure) std::rethrow_exception(failure);
    refuse(::zip_strerror(zip.get()));
  }
  (void)zip.release();  // zip_close freed it
  sync_file(path);
  sync_folder(path.parent_path());
}

void write_torch_archive(const std::filesystem::path& path, const NamedTensors& tensors) {
  write_torch_archive(path, describe(tensors), provider_of(tensors));
}

}  // namespace echo
