#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

namespace echo {

// Reads the fields of one message in protobuf's wire format, without its schema. Groups are an error, because no supported
// message uses them.
//   ProtobufReader reader(bytes, "file: the piece table");
//   while (reader.next()) switch (reader.number()) ...
// Throws Error (bad_data) when a field is cut off, has no valid tag or number, or when the caller requests a value of another
// type than the field has. The message begins with `where`. Source: protobuf.dev/programming-guides/encoding.
class ProtobufReader {
 public:
  enum class WireType { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

  ProtobufReader(std::string_view message, std::string where) : message_(message), where_(std::move(where)) {}

  bool next();                                 // reads one field; false at the end of the message
  uint32_t number() const { return number_; }  // 1 to 2^29 - 1
  WireType wire_type() const { return type_; }
  size_t offset() const { return field_start_; }  // of the field in the message, in bytes

  uint64_t varint() const;
  bool boolean() const;   // a varint that is 0 or 1
  int32_t int32() const;  // a varint in the range of int32_t
  float float32() const;  // four bytes
  std::string_view bytes() const;

 private:
  [[noreturn]] void refuse(const std::string& what) const;
  uint64_t read_varint();

  std::string_view message_;
  std::string where_;
  size_t position_ = 0, field_start_ = 0;
  uint32_t number_ = 0;
  WireType type_ = WireType::varint;
  uint64_t scalar_ = 0;
  std::string_view bytes_;
};

// Adds the number of a field that may occur only once. Throws Error (bad_data) when it is already in `seen`; the message begins
// with `where`. (protobuf itself would silently use the last one.)
void require_first(std::set<uint32_t>& seen, uint32_t number, const std::string& where);

}  // namespace echo
