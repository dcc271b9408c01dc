################################################################################
#
# kinglet
#
################################################################################

# cross/build of the kinglet tree makes the binary; see README.md in the folder of external.desc.
KINGLET_VERSION = 0.1.0
KINGLET_SOURCE =
KINGLET_LICENSE = MIT or Apache-2.0
KINGLET_BINARY = $(call qstrip,$(BR2_PACKAGE_KINGLET_BINARY))

define KINGLET_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(KINGLET_BINARY) $(TARGET_DIR)/usr/sbin/kinglet
endef

define KINGLET_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(KINGLET_PKGDIR)/S60kinglet $(TARGET_DIR)/etc/init.d/S60kinglet
endef

define KINGLET_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(KINGLET_PKGDIR)/kinglet.service $(TARGET_DIR)/usr/lib/systemd/system/kinglet.service
	$(SED) 's,/usr/local/bin/,/usr/sbin/,' $(TARGET_DIR)/usr/lib/systemd/system/kinglet.service
endef

$(eval $(generic-package))
