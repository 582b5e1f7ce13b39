# The front door: people and CI run the same words. `make help` lists them.
.DEFAULT_GOAL := build
build:           ## the program, optimised: build/cpu/bin/hyena
	scripts/build cpu
test:            ## build and run every test
	scripts/test
asan:            ## the tests under the address and undefined-behaviour sanitizers
	scripts/test asan
cuda:            ## the program with CUDA (installs the full torch, 5 GB)
	scripts/build cuda
check:           ## layers, format, clang-tidy on what changed since the previous commit
	scripts/check
tidy:            ## clang-tidy on every file
	scripts/check $$(git hash-object -t tree /dev/null)
format:          ## format every source file in place
	git ls-files '*.cpp' '*.h' '*.cu' '*.cuh' | grep -v '^workbench/' | xargs clang-format -i
mutants:         ## planted faults must turn the tests red
	scripts/mutants
bench: build     ## the mixer against its LibTorch composition, on this machine
	build/cpu/bin/hyena bench mixer --device cpu
demo:            ## train, score and sample a small Hyena language model
	scripts/demo
help:            ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 12
.PHONY: build test asan cuda check tidy format mutants bench demo help
