// Classify one CT slice with a bundle of edge-ct, against the C API of TensorFlow Lite. Research use only.
//   unzip -p model.tflite manifest.json > manifest.json
//   ./classify model.tflite manifest.json slice.pgm [TOP BOTTOM LEFT RIGHT]
// slice.pgm: grey levels of a lung window, binary PGM (P5), 8 bits. The four numbers are the part of the slice to look
// at, in pixels: bundles whose manifest says "crop": "lungs" need it. Every other number comes from the manifest.
// Compile with -ffp-contract=off: a fused multiply-add would resize to other bytes.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>
#include "tensorflow/lite/c/c_api.h"
using Keys = std::vector<std::string>;
struct Weight { int first, second, share; };
struct Picture {  // `top`, `left`, `height` and `width` are the part that is looked at; a row of `pixels` has `stride`
  int top, left, height, width, stride;
  std::vector<unsigned char> pixels;
  int at(int y, int x) const { return pixels[static_cast<size_t>(top + y) * stride + left + x]; }
};

[[noreturn]] void fail(const std::string& what) { std::fprintf(stderr, "classify: %s\n", what.c_str()), std::exit(1); }

// Text of the value under nested keys. The manifest is written by edge-ct with its fields in a fixed order.
std::string value(const std::string& json, const Keys& keys) {
  size_t at = 0;
  for (const auto& key : keys) {
    at = json.find("\"" + key + "\":", at);
    if (at == std::string::npos) return "null";
    at = json.find_first_not_of(" \n", at + key.size() + 3);
    if (json.compare(at, 4, "null") == 0) return "null";
  }
  return json.substr(at, json.find_first_of(",}\n", at) - at);
}

// Block means while a side is at least twice `size`, rounded half up; the last row and column are repeated.
Picture block_mean(const Picture& in, int size) {
  int rows = 1, columns = 1;
  while (in.height >= 2 * rows * size) rows *= 2;
  while (in.width >= 2 * columns * size) columns *= 2;
  int height = (in.height + rows - 1) / rows, width = (in.width + columns - 1) / columns;
  Picture out{0, 0, height, width, width, {}};
  for (int y = 0; y < out.height * rows; y += rows)
    for (int x = 0; x < out.width * columns; x += columns) {
      int sum = rows * columns / 2;
      for (int i = 0; i < rows * columns; ++i)
        sum += in.at(std::min(y + i / columns, in.height - 1), std::min(x + i % columns, in.width - 1));
      out.pixels.push_back(sum / (rows * columns));
    }
  return out;
}

// OpenCV's INTER_LINEAR_EXACT: weights of 8 bits along each side, the sum of products rounded half up.
Weight weight(int i, int from, int to) {
  double at = 1.0 / (static_cast<double>(to) / from) * (i + 0.5) - 0.5, first = std::floor(at);
  int low = static_cast<int>(first), share = static_cast<int>(std::nearbyint((at - first) * 256));
  return {std::clamp(low, 0, from - 1), std::clamp(low + 1, 0, from - 1), share};
}

std::vector<unsigned char> resize(const Picture& in, int size) {
  std::vector<unsigned char> out;
  for (int i = 0; i < size * size; ++i) {
    Weight y = weight(i / size, in.height, size), x = weight(i % size, in.width, size);
    auto along = [&](int row) { return (256 - x.share) * in.at(row, x.first) + x.share * in.at(row, x.second); };
    out.push_back(((256 - y.share) * along(y.first) + y.share * along(y.second) + (1 << 15)) >> 16);
  }
  return out;
}

int main(int count, char** words) {
  if (count != 4 && count != 8) fail("usage: classify MODEL MANIFEST SLICE.pgm [TOP BOTTOM LEFT RIGHT]");
  std::ifstream manifest(words[2]), file(words[3], std::ios::binary);
  std::string json{std::istreambuf_iterator<char>(manifest), {}}, magic;
  auto number = [&](const Keys& keys) {
    std::string text = value(json, keys);
    return text == "null" ? (fail("no " + keys.back() + " in the manifest"), 0.0) : std::stod(text);
  };
  int width = 0, height = 0, white = 0, size = number({"preprocess", "size"});
  if (!(file >> magic >> width >> height >> white) || magic != "P5" || white != 255) fail("not a binary PGM of 8 bits");
  int box[4] = {0, height, 0, width};
  for (int i = 4; i < count; ++i) box[i - 4] = std::atoi(words[i]);
  auto inside = [](int from, int to, int side) { return 0 <= from && from < to && to <= side; };
  if (!inside(box[0], box[1], height) || !inside(box[2], box[3], width)) fail("the part lies outside the slice");
  std::vector<unsigned char> pixels(static_cast<size_t>(width) * height);
  if (!file.ignore(1).read(reinterpret_cast<char*>(pixels.data()), pixels.size())) fail("the slice is cut short");
  Picture slice{box[0], box[2], box[1] - box[0], box[3] - box[2], width, pixels};
  std::vector<unsigned char> input = resize(block_mean(slice, size), size);
  TfLiteModel* model = TfLiteModelCreateFromFile(words[1]);
  TfLiteInterpreter* graph = model ? TfLiteInterpreterCreate(model, nullptr) : nullptr;
  if (!graph || TfLiteInterpreterAllocateTensors(graph) != kTfLiteOk) fail("TensorFlow Lite cannot load the model");
  TfLiteTensor* in = TfLiteInterpreterGetInputTensor(graph, number({"tensors", "input", "position"}));
  if (TfLiteTensorCopyFromBuffer(in, input.data(), input.size()) != kTfLiteOk) fail("the input must take bytes");
  if (TfLiteInterpreterInvoke(graph) != kTfLiteOk) fail("the graph does not run");
  auto output = [&](const std::string& name) {  // the stored bytes as real numbers
    const TfLiteTensor* tensor = TfLiteInterpreterGetOutputTensor(graph, number({"tensors", name, "position"}));
    float zero = number({"tensors", name, "zero_point"}), scale = number({"tensors", name, "scale"});
    const auto* bytes = static_cast<const unsigned char*>(TfLiteTensorData(tensor));
    std::vector<float> real(bytes, bytes + TfLiteTensorByteSize(tensor));
    bool is_signed = TfLiteTensorType(tensor) == kTfLiteInt8;
    for (float& each : real) each = ((is_signed && each > 127 ? each - 256 : each) - zero) * scale;
    return real;
  };
  std::vector<float> logits = output("logits");
  double difference = static_cast<double>(logits[1]) - logits[0];
  double score = number({"calibration", "slope"}) * difference + number({"calibration", "intercept"});
  bool has_map = value(json, {"tensors", "lesion_map"}) != "null";
  std::vector<float> lesions = has_map ? output("lesion_map") : std::vector<float>();
  long cells = std::count_if(lesions.begin(), lesions.end(), [](float logit) { return logit >= 0; });
  std::sort(lesions.rbegin(), lesions.rend());  // the mean of the strongest 3 % of the cells takes part in the decision
  size_t most = std::max<size_t>(!lesions.empty(), std::lround(0.03 * lesions.size()));
  for (size_t i = 0; i < most; ++i) score += number({"calibration", "lesion_slope"}) * lesions[i] / most;
  bool rule = value(json, {"rule"}) != "null";  // without one, the operating point decides, and nothing is referred
  if (!rule && value(json, {"zone"}) != "null") fail("a bundle of an earlier version: convert its run again");
  Keys lower{"rule", "negative_below"}, upper{"rule", "positive_from"}, point{"operating_point", "threshold"};
  double p = 1 / (1 + std::exp(-score));
  bool positive = p >= number(rule ? upper : point), negative = p < number(rule ? lower : point);
  std::printf("{\"decision\": \"%s\", \"probability\": %.6f, \"lesion_cells\": %ld, \"cells\": %zu}\n",
              positive ? "positive" : negative ? "negative" : "refer", p, cells, lesions.size());
}
