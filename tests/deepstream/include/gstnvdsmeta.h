/* Stands in for DeepStream's gstnvdsmeta.h where examples are compiled without it.
 * SPDX-License-Identifier: Apache-2.0 */
#include "standin.h"
