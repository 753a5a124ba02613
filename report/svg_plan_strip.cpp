#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "report/svg.h"
#include "report/svg_canvas.h"

namespace echo {

std::string svg_plan_strip(const std::vector<int64_t>& leaders, const std::vector<std::string>& hover, SvgUse use) {
  const int64_t layers = int64_t(leaders.size());
  ECHO_CHECK(layers > 0, "plan strip: no layers");
  ECHO_CHECK(hover.empty() || hover.size() == leaders.size(), "plan strip: ", hover.size(), " hover texts for ", layers,
             " layers");
  std::vector<int64_t> followers(leaders.size(), 0), color(leaders.size(), -1);
  for (int64_t i = 0; i < layers; ++i) {
    const int64_t leader = leaders[size_t(i)];
    ECHO_CHECK(leader >= 0 && leader <= i, "plan strip: layer ", i, " uses layer ", leader);
    if (leader != i) ++followers[size_t(leader)];
  }
  int64_t next_color = 0;
  for (int64_t i = 0; i < layers; ++i)
    if (followers[size_t(i)] > 0) color[size_t(i)] = next_color++ % 8;

  const double width = std::clamp(std::floor(1000.0 / double(layers)), 4.0, 48.0), height = 42.0;
  SvgCanvas canvas;
  for (int64_t i = 0; i < layers; ++i) {
    const int64_t leader = leaders[size_t(i)], block = color[size_t(leader)];
    const bool follows = leader != i;
    std::string text = fmt::format("layer {} computes its own attention", i);
    if (follows) text = fmt::format("layer {} uses the attention of layer {}", i, leader);
    if (followers[size_t(i)] > 0) text += fmt::format(" and lends it to {} more", followers[size_t(i)]);
    if (!hover.empty()) text = hover[size_t(i)];
    const std::string look = block < 0 ? "plain" : fmt::format("f{}{}", block, follows ? " faint" : "");
    // A gap of two units before each cell that begins a new block. Followers join their neighbour.
    const bool joined = i > 0 && leaders[size_t(i - 1)] == leader && follows;
    const double gap = joined || width < 8 ? 0.0 : 2.0;
    canvas.add("<rect x=\"{:.1f}\" y=\"1\" width=\"{:.1f}\" height=\"{:.0f}\" class=\"{}\"><title>{}</title></rect>\n",
               1 + width * double(i) + gap, width - gap, height, look, escape_html(text));
    const double middle = 1 + width * (double(i) + 0.5) + gap / 2;
    const bool leads = block >= 0 && !follows;
    const std::string still = fmt::format("pointer-events=\"none\"{}", leads ? " font-weight=\"700\"" : "");
    const double size = std::min(14.0, width * 0.5);
    if (width >= 13)
      canvas.text(middle, follows && width >= 30 ? 19 : 26, "middle", leads ? "on" : "ink", size, std::to_string(i), still);
    if (follows && width >= 30)
      canvas.text(middle, 35, "middle", "soft-ink", 11, fmt::format("\u2190 {}", leader), "pointer-events=\"none\"");
  }
  return canvas.finish(width * double(layers) + 2, height + 2, fmt::format("Plan of {} layers", layers), use);
}

}  // namespace echo
