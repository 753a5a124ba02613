#include "tokenizer/protobuf_reader.h"

#include <bit>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace echo {

void ProtobufReader::refuse(const std::string& what) const {
  fail(ExitCode::bad_data, where_, ": ", what, " at byte ", field_start_, " of ", message_.size());
}

uint64_t ProtobufReader::read_varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (position_ == message_.size()) refuse("a field is cut off");
    const auto byte = static_cast<uint8_t>(message_[position_++]);
    if (shift == 63 && byte > 1) refuse("a number does not fit 64 bits");
    value |= uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) return value;
  }
  refuse("a number has more than ten bytes");
}

bool ProtobufReader::next() {
  if (position_ == message_.size()) return false;
  field_start_ = position_;
  const uint64_t tag = read_varint();
  const uint64_t number = tag >> 3;
  if (number == 0 || number >= (1u << 29)) refuse(concat("field number ", number, " is impossible"));
  number_ = static_cast<uint32_t>(number);
  size_t length = 0;
  switch (tag & 7) {
    case 0:
      type_ = WireType::varint;
      scalar_ = read_varint();
      return true;
    case 1:
      length = 8;
      break;
    case 5:
      length = 4;
      break;
    case 2: {
      const uint64_t declared = read_varint();
      if (declared > message_.size() - position_)
        refuse(concat("field ", number, " declares ", declared, " bytes where ", message_.size() - position_, " are left"));
      length = declared;
      break;
    }
    default:
      refuse(concat("field ", number, " has the unsupported wire type ", tag & 7));
  }
  if (length > message_.size() - position_) refuse(concat("field ", number, " is cut off"));
  type_ = static_cast<WireType>(tag & 7);
  bytes_ = message_.substr(position_, length);
  position_ += length;
  return true;
}

uint64_t ProtobufReader::varint() const {
  if (type_ != WireType::varint) refuse(concat("field ", number_, " is not a number"));
  return scalar_;
}

bool ProtobufReader::boolean() const {
  if (varint() > 1) refuse(concat("field ", number_, " is ", scalar_, ", not a truth value"));
  return scalar_ == 1;
}

int32_t ProtobufReader::int32() const {
  const auto value = static_cast<int64_t>(varint());
  if (value < std::numeric_limits<int32_t>::min() || value > std::numeric_limits<int32_t>::max())
    refuse(concat("field ", number_, " is ", value, ", beyond 32 bits"));
  return static_cast<int32_t>(value);
}

float ProtobufReader::float32() const {
  if (type_ != WireType::fixed32) refuse(concat("field ", number_, " is not a 32-bit floating-point number"));
  float value;
  static_assert(std::endian::native == std::endian::little);
  std::memcpy(&value, bytes_.data(), sizeof value);
  return value;
}

std::string_view ProtobufReader::bytes() const {
  if (type_ != WireType::bytes) refuse(concat("field ", number_, " is not a string of bytes"));
  return bytes_;
}

void require_first(std::set<uint32_t>& seen, uint32_t number, const std::string& where) {
  if (!seen.insert(number).second) fail(ExitCode::bad_data, where, ": field ", number, " occurs twice");
}

}  // namespace echo
