/* Comes before every C file of ring, the only C that is compiled here.
 *
 * OPENSSL_SMALL is BoringSSL's own switch, which ring sets for 32-bit ARM: P-256 and Curve25519 without large tables of multiples
 * (the one of P-256 alone has 150 KB). The code is the same that ARM gets, made by fiat-crypto from proofs and constant in time; a
 * handshake takes a fraction of a millisecond longer. 190 KB less on amd64.
 *
 * ring's Rust calls two functions of the large code by name. They do what the small ones do, only faster, and become other names
 * of those; a ring with other names does not link.
 */
#ifndef OPENSSL_SMALL
#define OPENSSL_SMALL
#endif
#pragma weak ring_core_0_17_14__p256_point_mul_base_vartime = ring_core_0_17_14__p256_point_mul_base
#pragma weak ring_core_0_17_14__x25519_scalar_mult_adx = ring_core_0_17_14__x25519_scalar_mult_generic_masked
