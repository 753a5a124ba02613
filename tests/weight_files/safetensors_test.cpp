#include "weight_files/safetensors.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/file.h"
#include "tensor/allocator.h"
#include "tests/test_support.h"
#include "tests/weight_files/file_support.h"

namespace echo {
namespace {

// Writes a file with this header, opens it, and returns the message of the Error.
std::string refusal(const std::string& header, size_t data) {
  const TemporaryFolder folder;
  write_file(folder / "file.safetensors", safetensors_bytes(header, data));
  const std::string message = error_message(ExitCode::bad_data, [&] { SafetensorsReader reader(folder / "file.safetensors"); });
  expect_contains(message, "file.safetensors");
  return message;
}

void expect_refused(const std::string& header, size_t data, const std::string& reason) {
  const std::string message = refusal(header, data);
  expect_contains(message, reason);
}

TEST(SafetensorsTest, ARoundTripKeepsNamesOrderValuesAndMetadata) {
  const TemporaryFolder folder;
  const Tensor floats = Tensor::from<float>({1.5f, -0.0f, 3e38f, 4.0f, 5.0f, 6.0f}, {2, 3});
  const NamedTensors tensors = {{"z", floats},
                                {"a \"quoted\" näme", Tensor::from<int64_t>({-1, 1ll << 40})},
                                {"scalar", Tensor::from<double>({0.1}, {})},
                                {"empty", Tensor::empty({3, 0}, DType::bf16)},
                                {"transposed", floats.transpose(0, 1)},
                                {"ids", Tensor::from<uint16_t>({65535, 0, 7})}};
  write_safetensors(folder / "t", tensors, {{"format", "pt"}, {"note", "line\nbreak"}});
  const SafetensorsReader reader(folder / "t");
  EXPECT_EQ(reader.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"note", "line\nbreak"}}));
  EXPECT_EQ(reader.names().size(), 6u);
  EXPECT_EQ(reader.names().front(), "z");
  EXPECT_EQ(reader.read("z").to_vector<float>(), floats.to_vector<float>());
  EXPECT_EQ(reader.read("a \"quoted\" näme").to_vector<int64_t>(), (std::vector<int64_t>{-1, 1ll << 40}));
  EXPECT_EQ(reader.read("scalar").item(), 0.1);
  EXPECT_EQ(reader.read("empty").shape(), (Shape{3, 0}));
  EXPECT_EQ(reader.read("transposed").to_vector<float>(), floats.transpose(0, 1).to_vector<float>());
  EXPECT_EQ(reader.read("ids").to_vector<uint16_t>(), (std::vector<uint16_t>{65535, 0, 7}));
  EXPECT_FALSE(reader.has("y"));
}

TEST(SafetensorsTest, EqualTensorsGiveEqualBytesAndAnAlignedHeader) {
  const TemporaryFolder folder;
  const NamedTensors tensors = {{"b", Tensor::from<float>({1, 2, 3})}, {"a", Tensor::from<int32_t>({4})}};
  write_safetensors(folder / "1", tensors, {{"k", "v"}});
  write_safetensors(folder / "2", tensors, {{"k", "v"}});
  const std::string bytes = read_file(folder / "1");
  EXPECT_EQ(bytes, read_file(folder / "2"));
  uint64_t header;
  std::memcpy(&header, bytes.data(), 8);
  EXPECT_EQ(header % 8, 0u);
}

TEST(SafetensorsTest, ReadingConvertsFloatsAndNeedsTheShape) {
  const TemporaryFolder folder;
  write_file(folder / "t", safetensors_bytes(R"({"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})", 0) +
                               bytes_of_values<uint16_t>({0x3c00, 0xc100}));
  const SafetensorsReader reader(folder / "t");
  EXPECT_EQ(reader.info("h").type, StoredType::f16);
  EXPECT_EQ(reader.read("h").to_vector<float>(), (std::vector<float>{1.0f, -2.5f}));
  Tensor halves = Tensor::empty({2}, DType::bf16), wrong = Tensor::empty({1, 2}, DType::f32),
         integers = Tensor::empty({2}, DType::i32);
  reader.read_into("h", halves);
  EXPECT_EQ(float(halves.data<bfloat16>()[1]), -2.5f);
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { reader.read_into("h", wrong); }).find("shape (2), expected (1, 2)"),
            std::string::npos);
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { reader.read_into("h", integers); }).find("tensor h is stored as F16"),
            std::string::npos);
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { reader.read("g"); }).find("no tensor g"), std::string::npos);
}

TEST(SafetensorsTest, LargeTensorsAreReadInPiecesWithoutASeam) {  // 10 MiB: three pieces
  const TemporaryFolder folder;
  std::vector<int32_t> values((10 << 20) / 4);
  std::iota(values.begin(), values.end(), 0);
  write_safetensors(folder / "t", {{"pad", Tensor::from<uint16_t>({1})}, {"v", Tensor::from(values)}});
  const SafetensorsReader reader(folder / "t");
  Tensor wide = Tensor::empty({int64_t(values.size())}, DType::i64);
  reader.read_into("v", wide);
  EXPECT_EQ(reader.read("v").to_vector<int32_t>(), values);
  EXPECT_EQ(wide.to_vector<int64_t>(), std::vector<int64_t>(values.begin(), values.end()));
}

TEST(SafetensorsTest, MissingFilesAreNamed) {
  EXPECT_NE(error_message(ExitCode::input_missing, [] { SafetensorsReader reader("no/such.safetensors"); })
                .find("no/such.safetensors"),
            std::string::npos);
}

TEST(SafetensorsTest, FilesThatEndEarlyAreRefused) {
  const TemporaryFolder folder;
  write_safetensors(folder / "whole", {{"a", Tensor::from<float>({1, 2, 3, 4})}, {"b", Tensor::from<float>({5})}});
  const std::string whole = read_file(folder / "whole");
  for (size_t length = 0; length < whole.size(); ++length) {
    write_file(folder / "cut", whole.substr(0, length));
    error_message(ExitCode::bad_data, [&] { SafetensorsReader reader(folder / "cut"); });
  }
  write_file(folder / "cut", whole + "x");
  EXPECT_NE(error_message(ExitCode::bad_data, [&] { SafetensorsReader reader(folder / "cut"); })
                .find("1 bytes after the last tensor"),
            std::string::npos);
}

TEST(SafetensorsTest, HostileLengthsOfTheHeaderAreRefused) {
  const TemporaryFolder folder;
  for (const uint64_t length : {uint64_t{200'000'000}, ~uint64_t{0}, ~uint64_t{0} - 7, uint64_t{1} << 63}) {
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, 8);
    write_file(folder / "t", bytes + "{}");
    EXPECT_NE(error_message(ExitCode::bad_data, [&] { SafetensorsReader reader(folder / "t"); }).find("over the limit"),
              std::string::npos);
  }
}

TEST(SafetensorsTest, TensorsMustFillTheFileWithoutOverlap) {
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)" + first +
           R"(},"b":{"dtype":"F32","shape":[2],"data_offsets":)" + second + "}}";
  };
  expect_refused(two("[0,8]", "[4,12]"), 12, "overlaps the previous tensor");
  expect_refused(two("[0,8]", "[0,8]"), 8, "overlaps the previous tensor");
  expect_refused(two("[0,8]", "[12,20]"), 20, "tensor b: leaves a hole of 4 bytes");
  expect_refused(two("[4,12]", "[12,20]"), 20, "tensor a: leaves a hole");
  expect_refused(two("[0,8]", "[8,16]"), 20, "4 bytes after the last tensor");
  expect_refused(two("[0,8]", "[8,16]"), 15, "truncated");
  expect_refused(two("[0,8]", "[16,8]"), 16, "go backwards");
  expect_refused(two("[0,8]", "[8,12]"), 12, "tensor b: data_offsets span 4 bytes, shape and dtype need 8");
  expect_refused(two("[0,8]", "[8,18446744073709551615]"), 16, "tensor b ends at byte 18446744073709551615");
}

TEST(SafetensorsTest, ShapesThatOverflowAreRefused) {
  const auto shaped = [](const std::string& shape) {
    return R"({"t":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":[0,4]}})";
  };
  expect_refused(shaped("[4294967296,4294967296]"), 4, "larger than any file");
  expect_refused(shaped("[4611686018427387905]"), 4, "larger than any file");  // times 4 wraps around to 4
  expect_refused(shaped("[18446744073709551615]"), 4, "larger than any file");
  expect_refused(shaped("[4294967296,4294967296,0]"), 4, "larger than any file");
  expect_refused(shaped("[1,1,1,1,1,1,1]"), 4, "more than 6 dimensions");
  expect_refused(shaped("[-1]"), 4, "negative");
  expect_refused(shaped("[1.5]"), 4, "not an integer");
  expect_refused(shaped("[1e300]"), 4, "not an integer");
  expect_refused(shaped("[\"1\"]"), 4, "a text where none is expected");
  expect_refused(shaped("[[1]]"), 4, "a list where none is expected");
  expect_refused(shaped("null"), 4, "null");
  expect_refused(shaped("1"), 4, "a number where none is expected");
}

TEST(SafetensorsTest, HeadersOfAnotherFormAreRefused) {
  const std::string tensor = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  expect_refused("[]", 0, "does not begin with {");
  expect_refused("{\"t\":" + tensor, 4, "not valid JSON");
  expect_refused("{\"t\":" + tensor + "} x", 4, "not valid JSON");
  expect_refused("{\"t\xff\":" + tensor + "}", 4, "not valid JSON");
  expect_refused("{\"t\":" + tensor + ",\"t\":" + tensor + "}", 4, "tensor t occurs twice");
  expect_refused(R"({"t":{"dtype":"F4","shape":[1],"data_offsets":[0,4]}})", 4, "dtype \"F4\"");
  expect_refused(R"({"t":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, "dtype occurs twice");
  expect_refused(R"({"t":{"dtype":"F32","shape":[1]}})", 4, "tensor t: no data_offsets");
  expect_refused(R"({"t":{"shape":[1],"data_offsets":[0,4]}})", 4, "tensor t: no dtype");
  expect_refused(R"({"t":{"dtype":"F32","data_offsets":[0,4]}})", 4, "tensor t: no shape");
  expect_refused(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "not two numbers");
  expect_refused(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", 4, "not two numbers");
  expect_refused(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4, "unknown key \"x\"");
  expect_refused(R"({"t":{"dtype":{"a":1},"shape":[1],"data_offsets":[0,4]}})", 4, "an object where none is expected");
  expect_refused(R"({"t":5})", 4, "a number where none is expected");
  expect_refused(R"({"__metadata__":{"a":1}})", 0, "metadata");
  expect_refused(R"({"__metadata__":{"a":"1","a":"1"}})", 0, "occurs twice");
  expect_refused("{\"t\":" + std::string(1'000'000, '[') + "}", 0, "a list where none is expected");
}

TEST(SafetensorsTest, NothingIsAllocatedForATensorBeforeTheHeaderIsChecked) {
  CpuAllocator::instance().reset_peak();
  const int64_t before = CpuAllocator::instance().statistics().peak;
  refusal(
      R"({"a":{"dtype":"F32","shape":[1000],"data_offsets":[0,4000]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
      4004);
  EXPECT_EQ(CpuAllocator::instance().statistics().peak, before);
}

TEST(SafetensorsTest, AFullDiskIsAnErrorThatNamesTheFile) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  const NamedTensors tensors = {{"t", Tensor::zeros({1000}, DType::f32)}};
  EXPECT_NE(error_message(ExitCode::io, [&] { write_safetensors("/dev/full", tensors); }).find("/dev/full"), std::string::npos);
}

TEST(SafetensorsTest, WritingHoldsOneTensorThatTheProviderMakes) {
  const TemporaryFolder folder;
  std::vector<TensorDescription> descriptions;
  for (int i = 0; i < 20; ++i) descriptions.push_back({std::to_string(i), {1 << 18}, DType::f32});  // 1 MiB each
  CpuAllocator::instance().reset_peak();
  const int64_t before = CpuAllocator::instance().statistics().peak;
  write_safetensors(folder / "t", descriptions, [](const TensorDescription& d) { return Tensor::full(d.shape, 2.0, d.dtype); });
  EXPECT_LE(CpuAllocator::instance().statistics().peak - before, 1 << 20);
  EXPECT_EQ(SafetensorsReader(folder / "t").read("19").data<float>()[5], 2.0f);
}

}  // namespace
}  // namespace echo
