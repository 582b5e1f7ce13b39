// Line charts as SVG text.
#pragma once

#include <string>
#include <vector>

namespace hyena::sweep {

struct Series {
  std::string label;
  std::vector<double> x;
  std::vector<double> y;
  std::size_t color = 0;   ///< number in a palette of eight
  bool is_dashed = false;  ///< drawn thin and dashed, without an entry in the legend
};

struct Panel {
  std::string title;
  std::vector<Series> series;
};

enum class Axis : unsigned char { kLinear, kLog2 };

struct Chart {
  std::string title;
  std::string x_label;
  std::string y_label;
  Axis x_axis = Axis::kLinear;
  double y_min = 0.0;
  double y_max = 100.0;
  std::vector<Panel> panels;  ///< side by side, sharing both axes
};

/// A self-contained SVG document; text is escaped, points outside [y_min, y_max] are clamped.
[[nodiscard]] std::string draw(const Chart& chart);

}  // namespace hyena::sweep
