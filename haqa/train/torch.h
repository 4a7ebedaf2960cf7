#pragma once
// The parts of libtorch that HAQA uses; precompiled, as they take half a minute to read. Its own namespaces are used as
// they are: torch::Tensor, at:: for operations.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/types.h>
