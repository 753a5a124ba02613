#include "config/yaml_reader.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <sstream>

#include "base/error.h"
#include "base/utf8.h"

namespace echo {
namespace {

struct Refusal {
  int line;
  std::string text;
};

int line_at(std::string_view text, size_t position) {
  return 1 + int(std::count(text.begin(), text.begin() + std::ptrdiff_t(position), '\n'));
}

void check_characters(std::string_view text) {
  if (text.size() > kMaximumYamlBytes)
    throw Refusal{0, concat("is larger than ", kMaximumYamlBytes, " bytes; a configuration is a few kilobytes of YAML")};
  const size_t position = valid_utf8_length(text);
  if (position < text.size()) throw Refusal{line_at(text, position), "a byte that is not UTF-8; save the file as UTF-8 text"};
  bool indentation = true;
  for (size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    if (c == '\n') {
      indentation = true;
    } else if (c == '\t' && indentation) {
      throw Refusal{line_at(text, i), "a tab in the indentation; YAML is indented with spaces"};
    } else if (c < 0x20 && c != '\t' && c != '\r') {
      throw Refusal{line_at(text, i), concat("a control character (byte ", int(c), "); a plain UTF-8 text is expected")};
    } else if (c != ' ') {
      indentation = false;
    }
  }
}

// Builds the tree from yaml-cpp's events. YAML::Node would drop duplicate keys and expand aliases.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(YamlNode& root) : root_(root) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { add(node(YamlNode::Kind::null, mark, "", anchor)); }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    YamlNode alias = node(YamlNode::Kind::null, mark, "", 0);
    alias.flaw = "an alias (*name) is not accepted; write the value itself, or put a text that begins with * in quotes";
    add(std::move(alias));
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, const std::string& value) override {
    YamlNode scalar = node(YamlNode::Kind::scalar, mark, tag, anchor);
    scalar.quoted = tag == "!";
    scalar.text = value;
    add(std::move(scalar));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(node(YamlNode::Kind::list, mark, tag, anchor));
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    open(node(YamlNode::Kind::mapping, mark, tag, anchor));
  }
  void OnMapEnd() override { close(); }

 private:
  static YamlNode node(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    YamlNode made;
    made.kind = kind;
    made.line = mark.line + 1;
    // yaml-cpp reports the tag "?" for a node without a tag, and "!" for quoted text.
    if (!tag.empty() && tag != "?" && tag != "!") made.flaw = "a tag (!name) is not accepted; leave it out";
    if (anchor != 0) made.flaw = "an anchor (&name) is not accepted; leave it out and write the value where it is needed";
    return made;
  }

  void open(YamlNode container) {
    if (int(open_.size()) >= kMaximumYamlDepth)
      throw Refusal{container.line,
                    concat("lists or mappings nested deeper than ", kMaximumYamlDepth, "; a configuration has three levels")};
    open_.push_back({std::move(container), {}, false});
  }

  void close() {
    YamlNode done = std::move(open_.back().node);
    open_.pop_back();
    add(std::move(done));
  }

  void add(YamlNode child) {
    if (open_.empty()) {
      root_ = std::move(child);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::list) {
      parent.node.items.push_back(std::move(child));
    } else if (!parent.has_key) {
      parent.key = std::move(child);
      parent.has_key = true;
    } else {
      parent.node.entries.emplace_back(std::move(parent.key), std::move(child));
      parent.has_key = false;
    }
  }

  struct Open {
    YamlNode node;
    YamlNode key;  // of a mapping: the key that was read, whose value comes next
    bool has_key;
  };
  YamlNode& root_;
  std::vector<Open> open_;
};

}  // namespace

YamlDocument read_yaml(std::string_view text) {
  YamlDocument document;
  try {
    check_characters(text);
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder builder(document.root);
    parser.HandleNextDocument(builder);
    YamlNode second;
    TreeBuilder second_builder(second);
    if (parser.HandleNextDocument(second_builder))
      throw Refusal{second.line, "a second document begins (---); one document is expected, keep one"};
  } catch (const Refusal& refusal) {
    document.error = refusal.text;
    document.error_line = refusal.line;
  } catch (const YAML::Exception& exception) {
    document.error = concat("is not valid YAML: ", exception.msg, "; lines of the form key: value are expected");
    document.error_line = exception.mark.is_null() ? 0 : exception.mark.line + 1;
  }
  if (!document.error.empty()) document.root = {};
  return document;
}

}  // namespace echo
