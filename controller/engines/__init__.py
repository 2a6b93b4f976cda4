"""Container engines behind one interface (`base`): `docker`, and `memory` for tests."""
