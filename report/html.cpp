#include "report/html.h"

#include <cstdint>

#include "base/utf8.h"

namespace echo {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Length of the UTF-8 character at the start of `text`. 0 when it is invalid, or forbidden in XML: U+FFFE and U+FFFF.
size_t character_length(std::string_view text) {
  if (text.starts_with("\xEF\xBF\xBE") || text.starts_with("\xEF\xBF\xBF")) return 0;
  return utf8_character_length(text, 0);
}

constexpr std::string_view kStyle = R"(
:root { color-scheme: light dark; --paper: #ffffff; --panel: #f6f7f9; --ink: #1c2230; --soft: #5a6373; --line: #d5d9e0;
  --shade: #e8eaef; --mark: #b5460f; --warn-paper: #fff4e5; --warn-ink: #6b3d00; --warn-line: #e0902f;
  --s0: #0b62a8; --s1: #c65102; --s2: #157a5b; --s3: #a0427f; --s4: #7a6a00; --s5: #3f8fc4; --s6: #5b4fb3; --s7: #6d6d6d; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171d; --panel: #1c2028; --ink: #e7eaf0; --soft: #a3adbd; --line: #3a414d; --shade: #262c37;
    --mark: #ff9a5c; --warn-paper: #33260f; --warn-ink: #ffd9a3; --warn-line: #b97a26;
    --s0: #6cb6f2; --s1: #ff9a4d; --s2: #52c9a1; --s3: #e28fc4; --s4: #d6c44a; --s5: #a5d8f7; --s6: #aba1f5; --s7: #b4b4b4; } }
body { margin: 0 auto; max-width: 1080px; padding: 24px 20px 64px; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.4em 0 0.6em; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2em 0 0.5em; } h3 { font-size: 1rem; margin: 1.4em 0 0.3em; }
p, li { max-width: 75ch; overflow-wrap: anywhere; } .soft { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem; margin: 0.6em 0; }
th, td { padding: 5px 12px 5px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
.n { text-align: right; white-space: nowrap; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 0.88em; overflow-wrap: anywhere; }
pre { background: var(--panel); padding: 12px; overflow-x: auto; overflow-wrap: normal; }
.warnings { background: var(--warn-paper); color: var(--warn-ink); border-left: 4px solid var(--warn-line);
  margin: 0.8em 0; padding: 8px 14px 8px 32px; }
svg { max-width: 100%; height: auto; display: block; font-family: inherit; }
.wide svg { max-width: max(100%, 720px); } /* scrolled rather than shrunk until unreadable */
.ink { fill: var(--ink); } .soft-ink { fill: var(--soft); } .mark-ink { fill: var(--mark); }
.grid { stroke: var(--line); fill: none; } .axis { stroke: var(--soft); fill: none; }
.mark { stroke: var(--mark); fill: none; }
.band { fill: var(--shade); } .mark-band { fill: var(--mark); fill-opacity: 0.16; }
.plain { fill: var(--panel); stroke: var(--line); }
.f0 { fill: var(--s0); } .f1 { fill: var(--s1); } .f2 { fill: var(--s2); } .f3 { fill: var(--s3); }
.f4 { fill: var(--s4); } .f5 { fill: var(--s5); } .f6 { fill: var(--s6); } .f7 { fill: var(--s7); }
.l0 { stroke: var(--s0); } .l1 { stroke: var(--s1); } .l2 { stroke: var(--s2); } .l3 { stroke: var(--s3); }
.l4 { stroke: var(--s4); } .l5 { stroke: var(--s5); } .l6 { stroke: var(--s6); } .l7 { stroke: var(--s7); }
.series { fill: none; stroke-width: 2; stroke-linejoin: round; } .thin { stroke-width: 1.1; }
.faint { fill-opacity: 0.28; } .on { fill: var(--paper); }
)";

}  // namespace

std::string escape_html(std::string_view text) {
  std::string safe;
  safe.reserve(text.size() + text.size() / 8);
  while (!text.empty()) {
    const size_t length = character_length(text);
    const char c = text.front();
    if (length == 0 || c == '\x7F' || (length == 1 && uint8_t(c) < 0x20 && c != '\t' && c != '\n'))
      safe += kReplacement;
    else if (c == '&')
      safe += "&amp;";
    else if (c == '<')
      safe += "&lt;";
    else if (c == '>')
      safe += "&gt;";
    else if (c == '"')
      safe += "&quot;";
    else if (c == '\'')
      safe += "&#39;";
    else
      safe += text.substr(0, length);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return safe;
}

std::string html_table(const HtmlTable& table) {
  std::string html = "<div class=\"wide\"><table>\n";
  const auto row = [&](const std::vector<std::string>& cells, const char* tag) {
    html += "<tr>";
    for (size_t i = 0; i < cells.size(); ++i) {
      const bool numeric = i < table.numeric.size() && table.numeric[i];
      html += '<';
      html += tag;
      html += numeric ? " class=\"n\">" : ">";
      html += escape_html(cells[i]);
      html += "</";
      html += tag;
      html += '>';
    }
    html += "</tr>\n";
  };
  row(table.headers, "th");
  for (const std::vector<std::string>& cells : table.rows) row(cells, "td");
  return html + "</table></div>\n";
}

std::string html_warnings(const std::vector<std::string>& warnings) {
  if (warnings.empty()) return "";
  std::string html = "<ul class=\"warnings\">\n";
  for (const std::string& warning : warnings) html.append("<li>").append(escape_html(warning)).append("</li>\n");
  return html + "</ul>\n";
}

std::string html_page(std::string_view title, std::string_view body, std::string_view style) {
  const std::string safe_title = escape_html(title);
  std::string html = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n";
  html +=
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src "
      "'unsafe-inline'\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n";
  html.append("<title>")
      .append(safe_title)
      .append("</title>\n<style>")
      .append(kStyle)
      .append(style)
      .append("</style>\n</head>\n<body>\n");
  html.append("<h1>").append(safe_title).append("</h1>\n").append(body).append("\n</body>\n</html>\n");
  return html;
}

}  // namespace echo
