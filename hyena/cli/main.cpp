#include "hyena/cli/app.h"

int main(int argc, char** argv) {
  return hyena::cli::run(argc, argv);
}
