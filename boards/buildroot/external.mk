include $(sort $(wildcard $(BR2_EXTERNAL_KINGLET_PATH)/package/*/*.mk))
