#include "data/jsonl_source.h"

#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace echo {
namespace {

// Takes two fields from a line while the parser passes them. It builds no tree of the line, so a hostile line needs no more
// memory than its own bytes.
class FieldPicker : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit FieldPicker(Document& document) : document_(document) {}
  bool has_text() const { return has_text_; }

  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(number_integer_t) override { return value(); }
  bool number_unsigned(number_unsigned_t) override { return value(); }
  bool number_float(number_float_t, const string_t&) override { return value(); }
  bool binary(binary_t&) override { return value(); }
  bool string(string_t& text) override {
    if (depth_ == 1 && key_ == Key::text) {
      document_.text = std::move(text);
      has_text_ = true;
      return true;
    }
    if (depth_ == 2 && in_meta_ && key_ == Key::set_name) document_.set_name = std::move(text);
    return true;
  }
  bool start_object(std::size_t) override {
    in_meta_ = depth_ == 1 && key_ == Key::meta;
    return open();
  }
  bool start_array(std::size_t) override {
    in_meta_ = false;
    return open();
  }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    key_ = Key::other;
    if (depth_ == 1 && name == "text") key_ = Key::text;
    if (depth_ == 1 && name == "meta") key_ = Key::meta;
    if (depth_ == 2 && in_meta_ && name == "redpajama_set_name") key_ = Key::set_name;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  enum class Key { other, text, meta, set_name };

  bool value() {
    if (depth_ == 1 && key_ == Key::text) has_text_ = false;  // a later "text" that is not a string
    return true;
  }
  bool open() {
    value();
    key_ = Key::other;
    ++depth_;
    return true;
  }
  bool close() {
    key_ = Key::other;
    in_meta_ = false;
    --depth_;
    return true;
  }

  Document& document_;
  int64_t depth_ = 0;
  Key key_ = Key::other;
  bool in_meta_ = false, has_text_ = false;
};

}  // namespace

JsonlSource::JsonlSource(const DataFile& file, SetFilter filter) : file_(file), filter_(std::move(filter)) { open({0, 0}); }

void JsonlSource::open(const SourcePosition& position) {
  lines_ = std::make_unique<LineReader>(open_content(file_), kLongestRecord, position.byte);
  record_ = position.record;
}

void JsonlSource::restore(const SourcePosition& position) {
  if (position.byte >= 0) return open(position);
  if (position.record < record_) open({0, 0});
  while (record_ < position.record && lines_->skip_line()) ++record_;
}

bool JsonlSource::next(Document& document) {
  for (;;) {
    const LineReader::Result result = lines_->next(line_);
    if (result == LineReader::Result::end) return false;
    ++record_;
    if (result == LineReader::Result::line && line_.find_first_not_of(" \t") == std::string::npos) continue;
    ++counts_.records;
    if (result == LineReader::Result::too_long) {
      ++counts_.too_long;
      continue;
    }
    if (!is_valid_utf8(line_)) {
      ++counts_.invalid_utf8;
      continue;
    }
    document.text.clear();
    document.set_name.clear();
    FieldPicker picker(document);
    if (!nlohmann::json::sax_parse(line_, &picker)) {
      ++counts_.damaged_json;
    } else if (!picker.has_text()) {
      ++counts_.missing_text;
    } else if (!filter_.accepts(document.set_name)) {
      ++counts_.other_sets;
    } else if (document.text.empty()) {
      ++counts_.empty_text;
    } else {
      ++counts_.documents;
      return true;
    }
  }
}

}  // namespace echo
