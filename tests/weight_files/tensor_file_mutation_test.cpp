// Valid files with a few bytes changed, cut or repeated. Each must open and be read, or give an Error with exit code 65. Under
// AddressSanitizer (make MODE=asan test) this also finds reads outside the file.
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/random.h"
#include "tests/test_support.h"
#include "tests/weight_files/file_support.h"
#include "tests/weight_files/zip_builder.h"
#include "weight_files/pickle.h"
#include "weight_files/safetensors.h"
#include "weight_files/torch_archive.h"

namespace echo {
namespace {

std::string mutated(std::string bytes, RandomSequence& random, size_t reach) {
  for (uint64_t changes = 1 + random.below(3); changes > 0; --changes) {
    const size_t at = random.below(std::min(reach, bytes.size()));
    switch (random.below(6)) {
      case 0:
        bytes[at] = char(random.below(256));
        break;
      case 1:
        bytes[at] = char(uint8_t(bytes[at]) ^ (1u << random.below(8)));
        break;
      case 2:
        bytes[at] = char(0xff);
        break;
      case 3:
        bytes[at] = "0123456789[]{},:\"-.e"[random.below(20)];
        break;
      case 4:
        bytes.insert(at, bytes.substr(at, 1 + random.below(8)));
        break;
      case 5:
        bytes.erase(at, 1 + random.below(4));
        break;
    }
    if (bytes.empty()) return bytes;
  }
  return bytes;
}

// The number of mutants that gave an error. The others were read. Anything else fails the test.
template <class Body>
int refused_of(int mutants, const std::string& original, size_t limit, Body body) {
  RandomSequence random(7);
  int refused = 0;
  for (int i = 0; i < mutants; ++i) {
    const std::string bytes = mutated(original, random, std::min(limit, original.size()));
    try {
      body(bytes);
    } catch (const Error& error) {
      EXPECT_EQ(int(error.code()), int(ExitCode::bad_data)) << error.what();
      ++refused;
    }
  }
  return refused;
}

template <class Reader>
void read_everything(const std::filesystem::path& path) {
  const Reader reader(path);
  for (const std::string& name : reader.names()) reader.read(name);
}

std::vector<PickledTensor> some_tensors() {
  return {{"first", StoredType::f32, "0", 6, 0, {2, 3}, {3, 1}},
          {"second", StoredType::f32, "0", 6, 1, {2, 2}, {1, 3}},
          {"third", StoredType::bf16, "1", 3, 0, {3}, {1}}};
}

TEST(TensorFileMutationTest, SafetensorsHeaders) {
  const TemporaryFolder folder;
  write_safetensors(folder / "original",
                    {{"first", Tensor::zeros({2, 3}, DType::f32)}, {"second", Tensor::zeros({5}, DType::bf16)}},
                    {{"format", "pt"}});
  const std::string original = read_file(folder / "original");
  const int refused = refused_of(3000, original, original.size() - 34, [&](const std::string& bytes) {
    write_file(folder / "mutant", bytes);
    read_everything<SafetensorsReader>(folder / "mutant");
  });
  EXPECT_GT(refused, 1500);  // most changes break the header; those in names and padding do not
  EXPECT_LT(refused, 3000);
}

TEST(TensorFileMutationTest, Pickles) {
  const int refused = refused_of(20'000, write_pickled_state_dict(some_tensors()), SIZE_MAX, [](const std::string& bytes) {
    read_pickled_state_dict(std::as_bytes(std::span(bytes)), "mutant");
  });
  EXPECT_GT(refused, 10'000);
  EXPECT_LT(refused, 20'000);
}

TEST(TensorFileMutationTest, ArchivesWithAChangedPickle) {  // with a correct checksum, so that the change is reached
  const TemporaryFolder folder;
  const int refused = refused_of(1500, write_pickled_state_dict(some_tensors()), SIZE_MAX, [&](const std::string& bytes) {
    write_file(folder / "mutant",
               build_zip({{"m/data.pkl", bytes}, {"m/data/0", std::string(24, 'x')}, {"m/data/1", "abcdef"}}, false));
    read_everything<TorchArchiveReader>(folder / "mutant");
  });
  EXPECT_GT(refused, 750);
  EXPECT_LT(refused, 1500);
}

TEST(TensorFileMutationTest, Archives) {
  const TemporaryFolder folder;
  for (const bool zip64 : {false, true}) {
    const std::string original = build_zip(
        {{"m/data.pkl", write_pickled_state_dict(some_tensors())}, {"m/data/0", std::string(24, 'x')}, {"m/data/1", "abcdef"}},
        zip64);
    const int refused = refused_of(1500, original, SIZE_MAX, [&](const std::string& bytes) {
      write_file(folder / "mutant", bytes);
      read_everything<TorchArchiveReader>(folder / "mutant");
    });
    EXPECT_GT(refused, 750);
    EXPECT_LT(refused, 1500);
  }
}

}  // namespace
}  // namespace echo
