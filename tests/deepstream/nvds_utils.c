/* Stands in for libnvds_utils.so. SPDX-License-Identifier: Apache-2.0 */
#include "standin.h"

void
nvds_version (unsigned *major, unsigned *minor)
{
  *major = STANDIN_MAJOR;
  *minor = STANDIN_MINOR;
}
