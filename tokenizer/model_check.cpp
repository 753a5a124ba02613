#include "tokenizer/model_check.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/charsmap_check.h"
#include "tokenizer/protobuf_reader.h"

namespace echo {
namespace {

constexpr size_t kLongestPiece = 8000;     // bytes; the library's own limit in later versions
constexpr uint32_t kFirstExtension = 200;  // the schema leaves field numbers from here on to others
constexpr size_t kMostNestedSymbols = 32;

enum class PieceType { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct Piece {
  std::string_view text;
  PieceType type = PieceType::normal;
};

struct TrainerFacts {
  uint64_t model_type = 1;  // 1 unigram, 2 BPE
  bool byte_fallback = false;
  int32_t unknown_id = 0, begin_id = 1, end_id = 2, padding_id = -1;
  std::string_view unknown_piece = "<unk>", begin_piece = "<s>", end_piece = "</s>", padding_piece = "<pad>";
};

// Error texts quote pieces: keep them on one line and printable.
std::string quoted(std::string_view piece) {
  std::string out = "\"";
  for (const char c : piece.substr(0, 40)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7F) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02X", byte);
      out += escaped;
    } else {
      out += c;
    }
  }
  return out + (piece.size() > 40 ? "...\"" : "\"");
}

// A field that may occur once: protobuf would silently let the last one win.
void require_first(std::set<uint32_t>& seen, uint32_t number, const std::string& where) {
  if (!seen.insert(number).second) fail(ExitCode::bad_data, where, ": field ", number, " is there twice");
}

Piece read_piece(std::string_view message, const std::string& where) {
  Piece piece;
  std::set<uint32_t> seen;
  ProtobufReader reader(message, where);
  while (reader.next()) {
    require_first(seen, reader.number(), where);
    switch (reader.number()) {
      case 1:
        piece.text = reader.bytes();
        break;
      case 2:
        if (!std::isfinite(reader.float32())) fail(ExitCode::bad_data, where, ": its score is not finite");
        break;
      case 3: {
        const uint64_t type = reader.varint();
        if (type < 1 || type > 6) fail(ExitCode::bad_data, where, ": its type ", type, " is unknown");
        piece.type = static_cast<PieceType>(type);
        break;
      }
      default:
        if (reader.number() < kFirstExtension) fail(ExitCode::bad_data, where, ": unknown field ", reader.number());
    }
  }
  if (!seen.contains(1) || piece.text.empty()) fail(ExitCode::bad_data, where, ": it has no text");
  if (!seen.contains(2)) fail(ExitCode::bad_data, where, ": it has no score");
  if (piece.text.size() >= kLongestPiece) fail(ExitCode::bad_data, where, ": it is ", piece.text.size(), " bytes long");
  if (piece.text.find('\0') != std::string_view::npos) fail(ExitCode::bad_data, where, ": it holds a zero byte");
  if (!is_valid_utf8(piece.text)) fail(ExitCode::bad_data, where, ": it is not valid UTF-8");
  return piece;
}

TrainerFacts read_trainer_spec(std::string_view message, const std::string& where) {
  enum class Form { boolean, int32, uint64, float32, text };
  static const std::unordered_map<uint32_t, Form> kForms = [] {
    std::unordered_map<uint32_t, Form> forms;
    for (const uint32_t n : {1u, 2u, 5u, 7u, 30u, 31u, 36u, 44u, 45u, 46u, 47u, 48u, 53u}) forms[n] = Form::text;
    for (const uint32_t n : {4u, 6u, 12u, 13u, 14u, 16u, 17u, 18u, 20u, 40u, 41u, 42u, 43u}) forms[n] = Form::int32;
    for (const uint32_t n : {19u, 21u, 22u, 23u, 24u, 25u, 26u, 32u, 33u, 34u, 35u, 49u, 50u}) forms[n] = Form::boolean;
    for (const uint32_t n : {10u, 15u, 51u}) forms[n] = Form::float32;
    for (const uint32_t n : {3u, 11u, 52u}) forms[n] = Form::uint64;
    return forms;
  }();
  static const std::set<uint32_t> kRepeated = {1, 5, 30, 31};

  TrainerFacts facts;
  std::set<uint32_t> seen;
  ProtobufReader reader(message, where);
  while (reader.next()) {
    const uint32_t number = reader.number();
    if (!kRepeated.contains(number)) require_first(seen, number, where);
    if (const auto form = kForms.find(number); form != kForms.end()) {
      switch (form->second) {
        case Form::boolean:
          reader.boolean();
          break;
        case Form::int32:
          reader.int32();
          break;
        case Form::uint64:
          reader.varint();
          break;
        case Form::float32:
          reader.float32();
          break;
        case Form::text:
          reader.bytes();
          break;
      }
    }
    switch (number) {
      case 3:
        facts.model_type = reader.varint();
        break;
      case 35:
        facts.byte_fallback = reader.boolean();
        break;
      case 40:
        facts.unknown_id = reader.int32();
        break;
      case 41:
        facts.begin_id = reader.int32();
        break;
      case 42:
        facts.end_id = reader.int32();
        break;
      case 43:
        facts.padding_id = reader.int32();
        break;
      case 45:
        facts.unknown_piece = reader.bytes();
        break;
      case 46:
        facts.begin_piece = reader.bytes();
        break;
      case 47:
        facts.end_piece = reader.bytes();
        break;
      case 48:
        facts.padding_piece = reader.bytes();
        break;
      default:
        break;
    }
  }
  if (facts.model_type != 1 && facts.model_type != 2)
    fail(ExitCode::bad_data, where, ": model type ", facts.model_type, " is not supported (1 unigram, 2 BPE are)");
  return facts;
}

void read_normalizer_spec(std::string_view message, bool rules_allowed, const std::string& where) {
  std::set<uint32_t> seen;
  ProtobufReader reader(message, where);
  while (reader.next()) {
    require_first(seen, reader.number(), where);
    switch (reader.number()) {
      case 1:
      case 6:
        reader.bytes();
        break;
      case 2:
        if (!rules_allowed && !reader.bytes().empty())
          fail(ExitCode::bad_data, where, ": denormalisation rules are not supported");
        check_charsmap(reader.bytes(), where);
        break;
      case 3:
      case 4:
      case 5:
        reader.boolean();
        break;
      default:
        break;
    }
  }
}

void check_self_tests(std::string_view message, const std::string& where) {
  ProtobufReader reader(message, where);
  while (reader.next()) {
    if (reader.number() != 1) continue;
    ProtobufReader sample(reader.bytes(), where);
    while (sample.next())
      if (sample.number() <= 2) sample.bytes();
  }
}

void check_byte_pieces(const std::vector<Piece>& pieces, bool byte_fallback, const std::string& name) {
  std::array<bool, 256> found{};
  for (const Piece& piece : pieces) {
    if (piece.type != PieceType::byte) continue;
    if (!byte_fallback) fail(ExitCode::bad_data, name, ": byte piece ", quoted(piece.text), " although byte_fallback is off");
    unsigned value = 0;
    char canonical[8] = "";
    if (piece.text.size() == 6 && std::sscanf(std::string(piece.text).c_str(), "<0x%2X>", &value) == 1)
      std::snprintf(canonical, sizeof canonical, "<0x%02X>", value & 0xFFu);
    if (piece.text != canonical)
      fail(ExitCode::bad_data, name, ": byte piece ", quoted(piece.text), " is not <0x00> to <0xFF>");
    found[value] = true;
  }
  if (!byte_fallback) return;
  const auto missing = std::count(found.begin(), found.end(), false);
  if (missing > 0) fail(ExitCode::bad_data, name, ": byte_fallback is on but ", missing, " of the 256 byte pieces are missing");
}

void check_user_defined(const std::vector<Piece>& pieces, const std::string& name) {
  std::vector<std::string_view> symbols;
  for (const Piece& piece : pieces)
    if (piece.type == PieceType::user_defined) symbols.push_back(piece.text);
  std::sort(symbols.begin(), symbols.end());
  std::vector<std::string_view> prefixes;  // in sorted order a symbol's prefixes are what is left of those before it
  for (const std::string_view symbol : symbols) {
    while (!prefixes.empty() && !symbol.starts_with(prefixes.back())) prefixes.pop_back();
    prefixes.push_back(symbol);
    if (prefixes.size() > kMostNestedSymbols)
      fail(ExitCode::bad_data, name, ": more than ", kMostNestedSymbols, " user-defined pieces are prefixes of ",
           quoted(symbol));
  }
}

void check_special(const std::vector<Piece>& pieces, const char* role, int32_t id, std::string_view text, PieceType type,
                   const std::string& name) {
  if (id < -1 || id >= static_cast<int64_t>(pieces.size()))
    fail(ExitCode::bad_data, name, ": the ", role, " id ", id, " is outside the ", pieces.size(), " pieces");
  if (id == -1) return;
  const Piece& piece = pieces[size_t(id)];
  if (piece.type != type || piece.text != text)
    fail(ExitCode::bad_data, name, ": the ", role, " id ", id, " is the piece ", quoted(piece.text), ", not ", quoted(text));
}

}  // namespace

void check_tokenizer_model(std::string_view model, const std::string& name) {
  std::vector<Piece> pieces;
  std::unordered_map<std::string_view, size_t> first_use;
  std::optional<TrainerFacts> trainer;
  std::set<uint32_t> seen;
  ProtobufReader reader(model, name + ": not a SentencePiece model");
  while (reader.next()) {
    if (reader.number() != 1) require_first(seen, reader.number(), name);
    switch (reader.number()) {
      case 1: {
        const std::string where = concat(name, ": piece ", pieces.size(), " is damaged");
        const Piece piece = read_piece(reader.bytes(), where);
        const auto [earlier, is_new] = first_use.emplace(piece.text, pieces.size());
        if (!is_new) fail(ExitCode::bad_data, where, ": ", quoted(piece.text), " is piece ", earlier->second, " already");
        pieces.push_back(piece);
        break;
      }
      case 2:
        trainer = read_trainer_spec(reader.bytes(), name + ": the trainer settings are damaged");
        break;
      case 3:
        read_normalizer_spec(reader.bytes(), true, name + ": the normaliser settings are damaged");
        break;
      case 4:
        check_self_tests(reader.bytes(), name + ": the self-test data is damaged");
        break;
      case 5:
        read_normalizer_spec(reader.bytes(), false, name + ": the denormaliser settings cannot be used");
        break;
      default:
        if (reader.number() < kFirstExtension)
          fail(ExitCode::bad_data, name, ": not a SentencePiece model: unknown field ", reader.number());
    }
  }
  if (pieces.empty()) fail(ExitCode::bad_data, name, ": not a SentencePiece model: it has no pieces");
  if (!trainer) fail(ExitCode::bad_data, name, ": the trainer settings are missing");

  const auto unknown = std::count_if(pieces.begin(), pieces.end(), [](const Piece& p) { return p.type == PieceType::unknown; });
  if (unknown != 1) fail(ExitCode::bad_data, name, ": there are ", unknown, " unknown pieces, one is needed");
  const bool any_text = std::any_of(pieces.begin(), pieces.end(), [](const Piece& p) { return p.type == PieceType::normal; });
  if (trainer->model_type == 1 && !any_text) fail(ExitCode::bad_data, name, ": a unigram model needs ordinary pieces");
  check_byte_pieces(pieces, trainer->byte_fallback, name);
  check_user_defined(pieces, name);
  const auto named = [](std::string_view text, std::string_view fallback) { return text.empty() ? fallback : text; };
  check_special(pieces, "unknown", trainer->unknown_id, named(trainer->unknown_piece, "<unk>"), PieceType::unknown, name);
  check_special(pieces, "begin", trainer->begin_id, named(trainer->begin_piece, "<s>"), PieceType::control, name);
  check_special(pieces, "end", trainer->end_id, named(trainer->end_piece, "</s>"), PieceType::control, name);
  check_special(pieces, "padding", trainer->padding_id, named(trainer->padding_piece, "<pad>"), PieceType::control, name);
}

}  // namespace echo
