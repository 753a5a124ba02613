#include "weight_files/pickle.h"

#include <gtest/gtest.h>

#include "tests/test_support.h"

namespace echo {
namespace {

// The output of Python's own pickler with protocols 2 and 4, for an OrderedDict with the attribute _metadata. It contains plain
// (2, 3), transposed (3, 2) and tail (4) on one storage of 6 floats, half (4) wrapped as a parameter, and count () of one
// int64.
constexpr std::string_view kProtocol2 =
    "800263636f6c6c656374696f6e730a4f726465726564446963740a710029527101285805000000706c61696e710263746f7263682e5f7574"
    "696c730a5f72656275696c645f74656e736f725f76320a71032828580700000073746f72616765710463746f7263680a466c6f617453746f"
    "726167650a71055801000000307106580300000063707571074b06747108514b004b024b038671094b034b0186710a8968002952710b7471"
    "0c52710d580a0000007472616e73706f736564710e6803282868046805680668074b0674710f514b004b034b028671104b014b0386711189"
    "68002952711274711352711458040000007461696c71156803282868046805680668074b06747116514b024b048571174b01857118896800"
    "2952711974711a52711b580400000068616c66711c63746f7263682e5f7574696c730a5f72656275696c645f706172616d657465720a711d"
    "68032828680463746f7263680a48616c6653746f726167650a711e580100000031711f68074b04747120514b006817681889680029527121"
    "747122527123886800295271248771255271265805000000636f756e74712768032828680463746f7263680a4c6f6e6753746f726167650a"
    "7128580100000032712968074b0174712a514b0029298968002952712b74712c52712d757d712e58090000005f6d65746164617461712f68"
    "002952713028580000000071317d7132580700000076657273696f6e71334b017358050000006c6179657271347d713568334b0273757362"
    "2e";
constexpr std::string_view kProtocol4 =
    "800495ce010000000000008c0b636f6c6c656374696f6e73948c0b4f72646572656444696374949394295294288c05706c61696e948c0c74"
    "6f7263682e5f7574696c73948c125f72656275696c645f74656e736f725f763294939428288c0773746f72616765948c05746f726368948c"
    "0c466c6f617453746f726167659493948c0130948c03637075944b067494514b004b024b0386944b034b018694896802295294749452948c"
    "0a7472616e73706f73656494680728286808680b680c680d4b067494514b004b034b0286944b014b038694896802295294749452948c0474"
    "61696c94680728286808680b680c680d4b067494514b024b0485944b018594896802295294749452948c0468616c669468058c125f726562"
    "75696c645f706172616d6574657294939468072828680868098c0b48616c6653746f726167659493948c013194680d4b047494514b00681d"
    "681e89680229529474945294886802295294879452948c05636f756e749468072828680868098c0b4c6f6e6753746f726167659493948c01"
    "3294680d4b017494514b00292989680229529474945294757d948c095f6d65746164617461946802295294288c00947d948c077665727369"
    "6f6e944b01738c056c61796572947d94683c4b02737573622e";

std::string from_hexadecimal(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i < text.size(); i += 2) bytes += char(std::stoi(std::string(text.substr(i, 2)), nullptr, 16));
  return bytes;
}

std::vector<PickledTensor> read(const std::string& pickle) {
  return read_pickled_state_dict(std::as_bytes(std::span(pickle)), "archive");
}

std::string refusal(const std::string& pickle) {
  const std::string message = error_message(ExitCode::bad_data, [&] { read(pickle); });
  EXPECT_TRUE(message.starts_with("archive: ")) << message;
  return message;
}

using namespace std::string_literals;

void expect_refused(const std::string& pickle, const std::string& reason) {
  const std::string message = refusal(pickle);
  expect_contains(message, reason);
}

const std::string kStart = "\x80\x02"s;

TEST(PickleTest, WhatPythonWritesIsRead) {
  for (const std::string_view text : {kProtocol2, kProtocol4}) {
    const std::vector<PickledTensor> tensors = read(from_hexadecimal(text));
    ASSERT_EQ(tensors.size(), 5u);
    EXPECT_EQ(tensors[0].name, "plain");
    EXPECT_EQ(tensors[1].name, "transposed");
    EXPECT_EQ(tensors[1].extents, (std::vector<int64_t>{3, 2}));
    EXPECT_EQ(tensors[1].strides, (std::vector<int64_t>{1, 3}));
    EXPECT_EQ(tensors[1].storage_key, "0");
    EXPECT_EQ(tensors[1].storage_elements, 6);
    EXPECT_EQ(tensors[2].offset, 2);
    EXPECT_EQ(tensors[3].name, "half");
    EXPECT_EQ(tensors[3].type, StoredType::f16);
    EXPECT_EQ(tensors[4].type, StoredType::i64);
    EXPECT_TRUE(tensors[4].extents.empty());
  }
}

TEST(PickleTest, WhatIsWrittenIsReadBack) {
  const std::vector<PickledTensor> tensors = {{"a", StoredType::bf16, "0", 6'000'000'000, 5, {2, 3'000'000'000}, {1, 2}},
                                              {"ü", StoredType::f32, "x", 1, 0, {}, {}}};
  const std::vector<PickledTensor> back = read(write_pickled_state_dict(tensors));
  ASSERT_EQ(back.size(), 2u);
  EXPECT_EQ(back[0].storage_elements, 6'000'000'000);
  EXPECT_EQ(back[0].extents, tensors[0].extents);
  EXPECT_EQ(back[0].type, StoredType::bf16);
  EXPECT_EQ(back[1].name, "ü");
}

TEST(PickleTest, AnyOtherGlobalIsRefusedByNameAndNotRun) {
  expect_refused(kStart + "}X\x01\0\0\0acposix\nsystem\nX\x04\0\0\0true\x85Rs."s, "global posix.system");
  // Cut where an escape would swallow the letter after it.
  expect_refused(
      "\x80\x04\x8c\x08"
      "builtins\x8c\x04"
      "eval\x93."s,
      "global builtins.eval");
  expect_refused(kStart + "ctorch._utils\n_rebuild_tensor\n."s, "global torch._utils._rebuild_tensor");
  expect_refused(kStart + "ctorch\nload\n."s, "global torch.load");
  expect_refused(kStart + "ccollections\ndefaultdict\n."s, "global collections.defaultdict");
  expect_refused(kStart + "c" + std::string(1000, 'a') + "\nb\n.", "name of a global");
}

TEST(PickleTest, CallsThatDoNotFitAreRefused) {
  expect_refused(kStart + "ctorch\nFloatStorage\n)R.", "not a function");
  expect_refused(kStart + "K\x01)R.", "not a function");
  expect_refused(kStart + "ccollections\nOrderedDict\nK\x01\x85R.", "OrderedDict with arguments");
  expect_refused(kStart + "ccollections\nOrderedDict\nK\x01R.", "arguments of a call is an int");
  expect_refused(kStart + "ctorch._utils\n_rebuild_tensor_v2\n)R.", "with 0 arguments");
  expect_refused(kStart + "ctorch._utils\n_rebuild_parameter\n(K\x01\x88}tR.", "parameter's data is an int");
  const auto tensor = [](const std::string& offset, const std::string& shape, const std::string& strides) {
    return kStart + "}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"s +
           "0X\x03\0\0\0cpuK\x04tQ"s + offset + shape + strides + "\x89}tRs.";
  };
  EXPECT_EQ(read(tensor("K\0"s, "K\x04\x85", "K\x01\x85")).size(), 1u);
  expect_refused(tensor("J\xff\xff\xff\xff", "K\x04\x85", "K\x01\x85"), "offset is negative");
  expect_refused(tensor("K\0"s, "J\xff\xff\xff\xff\x85", "K\x01\x85"), "extent is negative");
  expect_refused(tensor("K\0"s, "K\x04\x85", "J\xff\xff\xff\xff\x85"), "stride is negative");
  expect_refused(tensor("K\0"s, "K\x04\x85", ")"), "1 extents and 0 strides");
  expect_refused(tensor("N", "K\x04\x85", "K\x01\x85"), "offset is None");
  expect_refused(tensor("K\0"s, "X\x01\0\0\0x\x85"s, "K\x01\x85"), "an extent is a text");
  expect_refused(tensor("K\0"s, "]", "K\x01\x85"), "shape is a list");
  expect_refused(kStart + "X\x03\0\0\0abcQ."s, "a persistent id is a text");
  expect_refused(kStart + "(X\x06\0\0\0moduleNNNNtQ."s, "not that of a storage");
}

TEST(PickleTest, OperationsOutOfPlaceAreRefused) {
  expect_refused("", "ends early");
  expect_refused(kStart, "ends early");
  expect_refused(kStart + ".", "empty stack");
  expect_refused(kStart + "K\x01.", "contains an int");
  expect_refused(kStart + "t.", "a mark is missing");
  expect_refused(kStart + "}(K\x01u.", "a key without a value");
  expect_refused(kStart + "}(K\x01K\x01u.", "a key of the state dict is an int");
  expect_refused(kStart + "}(X\x01\0\0\0aK\x01u."s, "entry a is an int");
  expect_refused(kStart + "](.", "empty stack");  // the value is below the mark
  expect_refused(kStart + "(]a.", "empty stack");
  expect_refused(kStart + "]K\x01s.", "empty stack");
  expect_refused(kStart + "]K\x01K\x01s.", "what is added to is a list");
  expect_refused(kStart + "h\x05.", "memo slot 5 is empty");
  expect_refused(kStart + "q\x05.", "empty stack");
  expect_refused(kStart +
                     "K\x01K\x01"
                     "b.",
                 "what gets attributes is an int");
  expect_refused("\x80\x06.", "protocol 6");
  expect_refused(kStart + "i", "operation 105");         // INST
  expect_refused(kStart + "o", "operation 111");         // OBJ
  expect_refused(kStart + "\x81", "operation 129");      // NEWOBJ
  expect_refused(kStart + "\x82\x01", "operation 130");  // EXT1
  expect_refused(kStart + "P1\n", "operation 80");       // PERSID
}

TEST(PickleTest, CountsAndLengthsAreLimited) {
  expect_refused(kStart +
                     "X\xff\xff\xff\xff"
                     "abc",
                 "a text of 4294967295 bytes");
  expect_refused(kStart + "X\x10\0\0\0abc"s, "ends early");
  expect_refused(kStart + "\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "a text of");
  expect_refused("\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff.", "ends early");
  expect_refused(kStart + "Nr\xff\xff\xff\xff.", "memo slot 4294967295");
  expect_refused(kStart + "\x8a\xff", "an int of 255 bytes");
  expect_refused(kStart + std::string(1'000'001, 'N'), "values on the stack");
  expect_refused(kStart + std::string(1'000'001, '('), "marks");
  std::string objects = kStart + "]";
  for (int i = 0; i < 1'000'001; ++i) objects += ")a";
  expect_refused(objects, "objects");
}

TEST(PickleTest, AListInsideItselfAndDeepNestingAreHarmless) {
  expect_refused(kStart + "]q\0h\0a."s, "contains a list");
  expect_refused(kStart + "]" + std::string(500'000, '\x85') + ".", "contains a tuple");
}

}  // namespace
}  // namespace echo
