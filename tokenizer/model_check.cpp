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
#include "tokenizer/trainer_spec.h"

namespace echo {
namespace {

constexpr size_t kLongestPiece = 8000;     // bytes; the library's own limit in later versions
constexpr uint32_t kFirstExtension = 200;  // the schema reserves field numbers from here on for extensions
constexpr size_t kMostNestedSymbols = 32;

// Field numbers of the messages ModelProto, SentencePiece, NormalizerSpec and SelfTestData (sentencepiece_model.proto).
namespace model_field {
enum : uint32_t { pieces = 1, trainer_spec = 2, normalizer_spec = 3, self_test_data = 4, denormalizer_spec = 5 };
}
namespace piece_field {
enum : uint32_t { text = 1, score = 2, type = 3 };
}
namespace normalizer_field {
enum : uint32_t {
  name = 1,
  precompiled_charsmap = 2,
  add_dummy_prefix = 3,
  remove_extra_whitespaces = 4,
  escape_whitespaces = 5,
  rule_tsv = 6
};
}
namespace self_test_field {
enum : uint32_t { samples = 1, sample_input = 1, sample_expected = 2 };
}

enum class PieceType { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct Piece {
  std::string_view text;
  PieceType type = PieceType::normal;
};

// Error messages quote pieces. This keeps them printable and on one line.
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

Piece read_piece(std::string_view message, const std::string& where) {
  Piece piece;
  std::set<uint32_t> seen;
  ProtobufReader reader(message, where);
  while (reader.next()) {
    require_first(seen, reader.number(), where);
    switch (reader.number()) {
      case piece_field::text:
        piece.text = reader.bytes();
        break;
      case piece_field::score:
        if (!std::isfinite(reader.float32())) fail(ExitCode::bad_data, where, ": its score is not finite");
        break;
      case piece_field::type: {
        const uint64_t type = reader.varint();
        if (type < 1 || type > 6) fail(ExitCode::bad_data, where, ": its type ", type, " is unknown");
        piece.type = static_cast<PieceType>(type);
        break;
      }
      default:
        if (reader.number() < kFirstExtension) fail(ExitCode::bad_data, where, ": unknown field ", reader.number());
    }
  }
  if (!seen.contains(piece_field::text) || piece.text.empty()) fail(ExitCode::bad_data, where, ": it has no text");
  if (!seen.contains(piece_field::score)) fail(ExitCode::bad_data, where, ": it has no score");
  if (piece.text.size() >= kLongestPiece) fail(ExitCode::bad_data, where, ": it is ", piece.text.size(), " bytes long");
  if (piece.text.find('\0') != std::string_view::npos) fail(ExitCode::bad_data, where, ": it has a zero byte");
  if (!is_valid_utf8(piece.text)) fail(ExitCode::bad_data, where, ": it is not valid UTF-8");
  return piece;
}

void read_normalizer_spec(std::string_view message, bool rules_allowed, const std::string& where) {
  std::set<uint32_t> seen;
  ProtobufReader reader(message, where);
  while (reader.next()) {
    require_first(seen, reader.number(), where);
    switch (reader.number()) {
      case normalizer_field::name:
      case normalizer_field::rule_tsv:
        reader.bytes();
        break;
      case normalizer_field::precompiled_charsmap:
        if (!rules_allowed && !reader.bytes().empty())
          fail(ExitCode::bad_data, where, ": denormalisation rules are not supported");
        check_charsmap(reader.bytes(), where);
        break;
      case normalizer_field::add_dummy_prefix:
      case normalizer_field::remove_extra_whitespaces:
      case normalizer_field::escape_whitespaces:
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
    if (reader.number() != self_test_field::samples) continue;
    ProtobufReader sample(reader.bytes(), where);
    while (sample.next())
      if (sample.number() == self_test_field::sample_input || sample.number() == self_test_field::sample_expected)
        sample.bytes();
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
  // in sorted order, the prefixes of a symbol are the remaining ones of those before it
  std::vector<std::string_view> prefixes;
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
  std::optional<TrainerSpec> trainer;
  std::set<uint32_t> seen;
  ProtobufReader reader(model, name + ": not a SentencePiece model");
  while (reader.next()) {
    if (reader.number() != model_field::pieces) require_first(seen, reader.number(), name);
    switch (reader.number()) {
      case model_field::pieces: {
        const std::string where = concat(name, ": piece ", pieces.size(), " is damaged");
        const Piece piece = read_piece(reader.bytes(), where);
        const auto [earlier, is_new] = first_use.emplace(piece.text, pieces.size());
        if (!is_new) fail(ExitCode::bad_data, where, ": ", quoted(piece.text), " is piece ", earlier->second, " already");
        pieces.push_back(piece);
        break;
      }
      case model_field::trainer_spec:
        trainer = read_trainer_spec(reader.bytes(), name + ": the trainer settings are damaged");
        break;
      case model_field::normalizer_spec:
        read_normalizer_spec(reader.bytes(), true, name + ": the normaliser settings are damaged");
        break;
      case model_field::self_test_data:
        check_self_tests(reader.bytes(), name + ": the self-test data is damaged");
        break;
      case model_field::denormalizer_spec:
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
  if (unknown != 1) fail(ExitCode::bad_data, name, ": there are ", unknown, " unknown pieces, expected one");
  const bool any_text = std::any_of(pieces.begin(), pieces.end(), [](const Piece& p) { return p.type == PieceType::normal; });
  if (trainer->model_type == kUnigramModel && !any_text)
    fail(ExitCode::bad_data, name, ": a unigram model needs ordinary pieces");
  check_byte_pieces(pieces, trainer->byte_fallback, name);
  check_user_defined(pieces, name);
  const auto or_default = [](std::string_view text, std::string_view fallback) { return text.empty() ? fallback : text; };
  const TrainerSpec defaults;
  const auto check = [&](const char* role, int32_t TrainerSpec::*id, std::string_view TrainerSpec::*piece, PieceType type) {
    check_special(pieces, role, (*trainer).*id, or_default((*trainer).*piece, defaults.*piece), type, name);
  };
  check("unknown", &TrainerSpec::unknown_id, &TrainerSpec::unknown_piece, PieceType::unknown);
  check("begin", &TrainerSpec::begin_id, &TrainerSpec::begin_piece, PieceType::control);
  check("end", &TrainerSpec::end_id, &TrainerSpec::end_piece, PieceType::control);
  check("padding", &TrainerSpec::padding_id, &TrainerSpec::padding_piece, PieceType::control);
}

}  // namespace echo
