#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#include "weight_files/stored_type.h"

namespace echo::pickle {

// Operations that the pickle of a state dict uses, by the names of Python's pickletools.
enum PickleOperation : uint8_t {
  kMark = '(',
  kStop = '.',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kEmptyDict = '}',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kEmptyList = ']',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kEmptyTuple = ')',
  kSetItems = 'u',
  kBinFloat = 'G',
  kProto = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
};

// The classes in module torch that name the element type of a storage.
inline constexpr std::pair<StoredType, std::string_view> kPickleStorages[] = {
    {StoredType::f64, "DoubleStorage"},    {StoredType::f32, "FloatStorage"}, {StoredType::f16, "HalfStorage"},
    {StoredType::bf16, "BFloat16Storage"}, {StoredType::i64, "LongStorage"},  {StoredType::i32, "IntStorage"},
    {StoredType::i16, "ShortStorage"},     {StoredType::i8, "CharStorage"},   {StoredType::u8, "ByteStorage"},
    {StoredType::boolean, "BoolStorage"}};

}  // namespace echo::pickle
