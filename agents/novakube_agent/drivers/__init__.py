"""Drivers: one package per hypervisor."""
