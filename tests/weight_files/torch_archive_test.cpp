#include "weight_files/torch_archive.h"

#include <gtest/gtest.h>
#include <zip.h>

#include <numeric>

#include "base/file.h"
#include "tests/test_support.h"
#include "tests/weight_files/file_support.h"
#include "tests/weight_files/zip_builder.h"
#include "weight_files/pickle.h"

namespace echo {
namespace {

const std::string kSixFloats = bytes_of_values<float>({0, 1, 2, 3, 4, 5});

// An archive with these tensors, all on storages "0" (six floats), "1" and so on as given.
std::vector<ZipEntry> archive_of(const std::vector<PickledTensor>& tensors, const std::vector<std::string>& storages) {
  std::vector<ZipEntry> entries = {{"model/data.pkl", write_pickled_state_dict(tensors)}};
  for (size_t i = 0; i < storages.size(); ++i) entries.push_back({"model/data/" + std::to_string(i), storages[i]});
  return entries;
}

PickledTensor plain(const std::string& name) { return {name, StoredType::f32, "0", 6, 0, {2, 3}, {3, 1}}; }

void expect_refused(const std::string& archive, const std::string& reason) {
  const TemporaryFolder folder;
  write_file(folder / "pytorch_model.bin", archive);
  const std::string message = error_message(ExitCode::bad_data, [&] {
    const TorchArchiveReader reader(folder / "pytorch_model.bin");
    for (const std::string& name : reader.names()) reader.read(name);
  });
  expect_contains(message, "pytorch_model.bin: ");
  expect_contains(message, reason);
}

void expect_refused(const std::vector<PickledTensor>& tensors, const std::vector<std::string>& storages,
                    const std::string& reason) {
  expect_refused(build_zip(archive_of(tensors, storages), false), reason);
}

TEST(TorchArchiveTest, ARoundTripKeepsNamesOrderAndValues) {
  const TemporaryFolder folder;
  std::vector<float> many(1 << 20);  // 4 MiB: several pieces
  std::iota(many.begin(), many.end(), 0.0f);
  const Tensor bf16 = Tensor::full({3, 2}, -1.5, DType::bf16);
  write_torch_archive(folder / "a.bin", {{"many", Tensor::from(many)},
                                         {"bf16", bf16},
                                         {"scalar", Tensor::from<int64_t>({-7}, {})},
                                         {"empty", Tensor::empty({0, 3}, DType::f32)},
                                         {"f64", Tensor::from<double>({0.1, 0.2}).reshape({2, 1})}});
  const TorchArchiveReader reader(folder / "a.bin");
  EXPECT_EQ(reader.names(), (std::vector<std::string>{"many", "bf16", "scalar", "empty", "f64"}));
  EXPECT_EQ(reader.read("many").to_vector<float>(), many);
  EXPECT_EQ(reader.info("bf16").type, StoredType::bf16);
  EXPECT_EQ(float(reader.read("bf16").data<bfloat16>()[5]), -1.5f);
  EXPECT_EQ(reader.read("scalar").item(), -7);
  EXPECT_EQ(reader.read("empty").shape(), (Shape{0, 3}));
  EXPECT_EQ(reader.read("f64").to_vector<double>(), (std::vector<double>{0.1, 0.2}));
}

TEST(TorchArchiveTest, EqualTensorsGiveEqualBytes) {
  const TemporaryFolder folder;
  const NamedTensors tensors = {{"a", Tensor::from<float>({1, 2})}, {"b", Tensor::from<int32_t>({3})}};
  write_torch_archive(folder / "1", tensors);
  write_torch_archive(folder / "2", tensors);
  EXPECT_EQ(read_file(folder / "1"), read_file(folder / "2"));
}

TEST(TorchArchiveTest, EntriesAreStoredAsTorchWantsThem) {
  const TemporaryFolder folder;
  write_torch_archive(folder / "a.bin", {{"a", Tensor::from<float>({1, 2})}});
  zip_t* zip = zip_open((folder / "a.bin").c_str(), ZIP_RDONLY | ZIP_CHECKCONS, nullptr);
  ASSERT_NE(zip, nullptr);
  for (const char* name : {"archive/data.pkl", "archive/data/0", "archive/byteorder", "archive/version"}) {
    zip_stat_t status;
    ASSERT_EQ(zip_stat(zip, name, 0, &status), 0) << name;
    EXPECT_EQ(status.comp_method, ZIP_CM_STORE) << name;
  }
  zip_discard(zip);
}

TEST(TorchArchiveTest, ViewsOfOneStorageAreReadByTheirStrides) {
  const TemporaryFolder folder;
  const std::vector<PickledTensor> tensors = {plain("plain"),
                                              {"transposed", StoredType::f32, "0", 6, 0, {3, 2}, {1, 3}},
                                              {"tail", StoredType::f32, "0", 6, 4, {2}, {1}},
                                              {"column", StoredType::f32, "0", 6, 1, {2}, {3}},
                                              {"cube", StoredType::f32, "0", 6, 0, {1, 3, 2}, {99, 1, 3}}};
  for (const bool zip64 : {false, true}) {
    write_file(folder / "m.bin", build_zip(archive_of(tensors, {kSixFloats}), zip64));
    const TorchArchiveReader reader(folder / "m.bin");
    EXPECT_EQ(reader.read("plain").to_vector<float>(), (std::vector<float>{0, 1, 2, 3, 4, 5}));
    EXPECT_EQ(reader.read("transposed").to_vector<float>(), (std::vector<float>{0, 3, 1, 4, 2, 5}));
    EXPECT_EQ(reader.read("tail").to_vector<float>(), (std::vector<float>{4, 5}));
    EXPECT_EQ(reader.read("column").to_vector<float>(), (std::vector<float>{1, 4}));
    EXPECT_EQ(reader.read("cube").to_vector<float>(), (std::vector<float>{0, 3, 1, 4, 2, 5}));
    Tensor wide = Tensor::empty({2, 3}, DType::f64);
    reader.read_into("plain", wide);
    EXPECT_EQ(wide.to_vector<double>().back(), 5.0);
  }
}

TEST(TorchArchiveTest, CompressedEntriesAreRead) {
  const TemporaryFolder folder;
  std::string zeros(400'000, '\0');
  zeros.back() = '\x40';  // the last float is 2
  zip_t* zip = zip_open((folder / "m.bin").c_str(), ZIP_CREATE, nullptr);
  const std::string pickle = write_pickled_state_dict(
      {{"all", StoredType::f32, "0", 100'000, 0, {100'000}, {1}}, {"last", StoredType::f32, "0", 100'000, 99'998, {2}, {1}}});
  for (const auto& [name, content] : {std::pair<const char*, const std::string*>{"m/data.pkl", &pickle}, {"m/data/0", &zeros}})
    ASSERT_GE(zip_file_add(zip, name, zip_source_buffer(zip, content->data(), content->size(), 0), 0), 0);
  ASSERT_EQ(zip_close(zip), 0);
  ASSERT_LT(std::filesystem::file_size(folder / "m.bin"), 10'000u);
  const TorchArchiveReader reader(folder / "m.bin");
  EXPECT_EQ(reader.read("all").data<float>()[99'999], 2.0f);
  EXPECT_EQ(reader.read("last").to_vector<float>(), (std::vector<float>{0, 2}));
}

TEST(TorchArchiveTest, StoragesMustHoldWhatIsDeclared) {
  expect_refused({plain("t")}, {kSixFloats.substr(1)}, "tensor t: its storage 0 has 23 bytes, expected 6 x 4");
  expect_refused({plain("t")}, {kSixFloats + "x"}, "25 bytes");
  expect_refused({plain("t")}, {}, "tensor t: its storage 0 is not in the archive");
  PickledTensor huge = plain("t");
  huge.storage_elements = 0x4000000000000006;  // times 4 wraps around to 24
  expect_refused({huge}, {kSixFloats}, "tensor t: its storage 0 has 24 bytes");
  PickledTensor outside = plain("t");
  outside.storage_key = "../../etc/passwd";
  expect_refused({outside}, {kSixFloats}, "is not in the archive");
}

TEST(TorchArchiveTest, ViewsMustStayInTheirStorage) {
  const auto view = [](int64_t offset, std::vector<int64_t> extents, std::vector<int64_t> strides) {
    return std::vector<PickledTensor>{{"t", StoredType::f32, "0", 6, offset, std::move(extents), std::move(strides)}};
  };
  expect_refused(view(1, {2, 3}, {3, 1}), {kSixFloats}, "leave its storage");
  expect_refused(view(0, {2, 3}, {4, 1}), {kSixFloats}, "leave its storage");
  expect_refused(view(6, {1}, {1}), {kSixFloats}, "leave its storage");
  expect_refused(view(INT64_MAX, {2}, {1}), {kSixFloats}, "leave its storage");
  expect_refused(view(0, {3}, {INT64_MAX}), {kSixFloats}, "leave its storage");
  expect_refused(view(0, {int64_t{1} << 40}, {0}), {kSixFloats}, "its storage only 6");
  expect_refused(view(0, {int64_t{1} << 40, int64_t{1} << 40}, {0, 0}), {kSixFloats}, "larger than any file");
  expect_refused(view(0, {1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1}), {kSixFloats}, "7 dimensions");
}

TEST(TorchArchiveTest, TheSameNameTwiceIsRefused) {
  expect_refused({plain("t"), plain("t")}, {kSixFloats}, "tensor t occurs twice");
}

TEST(TorchArchiveTest, AWrongCheckSumIsFoundWhenReading) {
  std::vector<ZipEntry> entries = archive_of({plain("t")}, {kSixFloats});
  entries[1].wrong_checksum = true;
  expect_refused(build_zip(entries, false), "CRC");
}

TEST(TorchArchiveTest, AnotherByteOrderIsRefused) {
  std::vector<ZipEntry> entries = archive_of({plain("t")}, {kSixFloats});
  entries.push_back({"model/byteorder", "big"});
  expect_refused(build_zip(entries, false), "another byte order (big)");
}

TEST(TorchArchiveTest, OtherFilesAreRefusedWithTheReason) {
  expect_refused("", "not a zip archive");
  expect_refused("\x80\x02\x8a\x0a", "format from before version 1.6");
  expect_refused("PK\x03\x04 and nothing else", "not a valid zip archive");
  expect_refused(build_zip({{"readme.txt", "hello"}}, false), "has no data.pkl");
  expect_refused(build_zip({{"a/data.pkl", "x"}, {"b/data.pkl", "x"}}, false), "two archives");
  expect_refused(build_zip({{"a/data.pkl", std::string(20'000'000, 'N'), true}}, false), "over the limit");
  expect_refused(build_zip({{"a/data.pkl",
                             "\x80\x02"
                             "cos\nsystem\n."}},
                           false),
                 "global os.system");
  error_message(ExitCode::input_missing, [] { TorchArchiveReader reader("no/such.bin"); });
}

TEST(TorchArchiveTest, FilesThatEndEarlyAreRefused) {
  const TemporaryFolder folder;
  const std::string whole = build_zip(archive_of({plain("t")}, {kSixFloats}), true);
  for (size_t length = 0; length < whole.size(); length += 3) {
    write_file(folder / "cut", whole.substr(0, length));
    error_message(ExitCode::bad_data, [&] { TorchArchiveReader reader(folder / "cut"); });
  }
}

TEST(TorchArchiveTest, AFolderThatCannotBeWrittenIsAnErrorThatNamesTheFile) {
  const NamedTensors tensors = {{"t", Tensor::zeros({4}, DType::f32)}};
  EXPECT_NE(
      error_message(ExitCode::io, [&] { write_torch_archive("no/such/folder/a.bin", tensors); }).find("no/such/folder/a.bin"),
      std::string::npos);
}

TEST(TorchArchiveTest, AnErrorOfTheProviderComesThrough) {
  const TemporaryFolder folder;
  const std::vector<TensorDescription> tensors = {{"t", {4}, DType::f32}};
  EXPECT_EQ(error_message(ExitCode::numerical,
                          [&] {
                            write_torch_archive(folder / "a.bin", tensors, [](const TensorDescription&) -> Tensor {
                              fail(ExitCode::numerical, "from the provider");
                            });
                          }),
            "from the provider");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace echo
