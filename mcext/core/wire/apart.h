/* apart: what stays a function of its own where the compiler draws all of a call into one (WHOLE in
 * binding/compat.h). Of the instructions of a small call nothing is saved by drawing these in, and
 * there would be a copy of them in each method. */
#ifndef MC_APART_H
#define MC_APART_H

#define MC_APART __attribute__((noinline))      /* takes so long that a call does not show */
#define MC_COLD __attribute__((noinline, cold)) /* almost no call comes there */

#endif
