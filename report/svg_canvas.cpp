#include "report/svg_canvas.h"

#include <algorithm>

namespace echo {
namespace {

// The classes of html_page()'s style sheet with literal colours, because viewers other than browsers do not support variables.
constexpr std::string_view kStandaloneStyle =
    "text { font-family: \"DejaVu Sans\", system-ui, sans-serif; } .ink { fill: #1c2230; } .soft-ink { fill: #5a6373; } "
    ".mark-ink { fill: #b5460f; } .grid { stroke: #d5d9e0; fill: none; } .axis { stroke: #5a6373; fill: none; } "
    ".mark { stroke: #b5460f; fill: none; } .band { fill: #e8eaef; } .mark-band { fill: #b5460f; fill-opacity: 0.16; } "
    ".plain { fill: #f6f7f9; stroke: #d5d9e0; } .f0 { fill: #0b62a8; } .f1 { fill: #c65102; } .f2 { fill: #157a5b; } "
    ".f3 { fill: #a0427f; } .f4 { fill: #7a6a00; } .f5 { fill: #3f8fc4; } .f6 { fill: #5b4fb3; } .f7 { fill: #6d6d6d; } "
    ".l0 { stroke: #0b62a8; } .l1 { stroke: #c65102; } .l2 { stroke: #157a5b; } .l3 { stroke: #a0427f; } "
    ".l4 { stroke: #7a6a00; } .l5 { stroke: #3f8fc4; } .l6 { stroke: #5b4fb3; } .l7 { stroke: #6d6d6d; } "
    ".series { fill: none; stroke-width: 2; stroke-linejoin: round; } .thin { stroke-width: 1.1; } "
    ".faint { fill-opacity: 0.28; } .on { fill: #ffffff; }";

}  // namespace

std::string SvgCanvas::finish(double width, double height, std::string_view title, SvgUse use) const {
  const bool standalone = use == SvgUse::standalone;
  if (standalone) width = std::max(width, 9.6 * double(title.size()) + 32);  // a small picture must not cut off its title
  const double shift = standalone && !title.empty() ? 34.0 : 0.0;            // room for the title
  const std::string safe_title = escape_html(title);
  std::string svg = standalone ? "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" : "";
  fmt::format_to(
      std::back_inserter(svg),
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
      "role=\"img\" aria-label=\"{2}\">\n",
      width, height + shift, safe_title);
  if (standalone) {
    fmt::format_to(std::back_inserter(svg), "<title>{}</title>\n<style>{}</style>\n", safe_title, kStandaloneStyle);
    fmt::format_to(std::back_inserter(svg), "<rect width=\"{:.0f}\" height=\"{:.0f}\" fill=\"#ffffff\"/>\n", width,
                   height + shift);
    fmt::format_to(std::back_inserter(svg),
                   "<text x=\"{:.1f}\" y=\"26\" text-anchor=\"middle\" class=\"ink\" font-size=\"16\" font-weight=\"600\">{}"
                   "</text>\n<g transform=\"translate(0 {:.0f})\">\n",
                   width / 2, safe_title, shift);
  }
  svg += body_;
  return svg + (standalone ? "</g>\n</svg>\n" : "</svg>\n");
}

}  // namespace echo
