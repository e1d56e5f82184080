# An emulation of Slicer's SlicerExtensionCPack.cmake: it checks the metadata and installs the description.

foreach(name IN ITEMS README_FILE LICENSE_FILE)
  if(NOT EXISTS "${EXTENSION_${name}}")
    message(FATAL_ERROR "EXTENSION_${name} points to a file that does not exist: ${EXTENSION_${name}}")
  endif()
endforeach()

set(description "${CMAKE_BINARY_DIR}/${EXTENSION_NAME}.s4ext")
file(WRITE "${description}" "name ${EXTENSION_NAME}\n")
foreach(name IN ITEMS HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS README_FILE LICENSE_FILE)
  file(APPEND "${description}" "${name} ${EXTENSION_${name}}\n")
endforeach()
install(FILES "${description}" DESTINATION "${Slicer_SHARE_DIR}" COMPONENT RuntimeLibraries)
